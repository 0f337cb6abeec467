"""Starter layouts of e-mails: whole mails that any program shows, to be written over."""

from __future__ import annotations

from django.utils.translation import gettext as _

_TABLE = '<table role="presentation" width="100%" cellpadding="0" cellspacing="0" style="{}">'
_FONTS = "-apple-system,'Segoe UI',Roboto,'Apple SD Gothic Neo','Malgun Gothic',sans-serif"
_FRAME = """<div style="background:#f3f4f6;padding:24px 12px;font-family:{fonts}">
  {table}
    <tr><td style="padding:32px 32px 8px;color:#111827;font-size:16px;line-height:1.6">
{inner}
    </td></tr>
    <tr><td style="padding:16px 32px 32px;color:#6b7280;font-size:12px;line-height:1.6">
{foot}
    </td></tr>
  </table>
</div>
"""
_H1 = '      <h1 style="margin:0 0 16px;font-size:24px;line-height:1.3">{}</h1>'
_P = '      <p style="margin:0 0 16px">{}</p>'
_BUTTON = (
    '      <p style="margin:24px 0"><a href="https://example.com/" style="display:inline-block;background:#4f46e5;'
    'color:#ffffff;text-decoration:none;font-weight:600;padding:12px 24px;border-radius:6px">{}</a></p>'
)
_HELLO = "{{ name|default('') }}"


def starters() -> list[dict[str, str]]:
    """Name and HTML of each, in the operator's language."""
    leave = f'      <a href="{{{{ unsubscribe_url }}}}" style="color:#6b7280">{_("Unsubscribe")}</a>'
    hello = _P.format(_("Hello %(name)s,") % {"name": _HELLO})
    cell = "padding:8px 0;border-top:1px solid #e5e7eb"
    line = f'<tr><td style="{cell}">{{}}</td><td align="right" style="{cell}">{{}}</td></tr>'
    story = (
        '      <h2 style="margin:24px 0 8px;font-size:18px">{}</h2>\n'
        '      <p style="margin:0 0 8px">{}</p>\n'
        '      <p style="margin:0 0 16px"><a href="https://example.com/" style="color:#4f46e5">{}</a></p>'
    )
    words = (_("First story"), _("Two or three sentences about it."), _("Read more"))
    return [
        {
            "name": _("Announcement"),
            "html": _framed(
                [
                    _H1.format(_("Something new for you")),
                    hello,
                    _P.format(_("Say in two sentences what is new, and what it is good for.")),
                    _BUTTON.format(_("Have a look")),
                ],
                leave,
            ),
        },
        {
            "name": _("Newsletter"),
            "html": _framed(
                [
                    _H1.format(_("News of this month")),
                    hello,
                    story.format(*words),
                    story.format(_("Second story"), *words[1:]),
                ],
                leave,
            ),
        },
        {
            "name": _("Receipt"),
            "html": _framed(
                [
                    _H1.format(_("Thank you for your order")),
                    hello,
                    "      " + _TABLE.format("margin:0 0 16px"),
                    "        " + line.format(_("Order"), "{{ order_id }}"),
                    "        " + line.format(_("Total"), "<strong>{{ total }}</strong>"),
                    "      </table>",
                    _BUTTON.format(_("Follow your order")),
                ],
                "      " + _("You get this e-mail because you ordered something."),
            ),
        },
        {
            "name": _("Letter"),
            "html": "\n".join(
                f"<p>{text}</p>"
                for text in (
                    _("Hello %(name)s,") % {"name": _HELLO},
                    _("Write as you would to somebody whom you know."),
                    _("Kind regards"),
                    f'<a href="{{{{ unsubscribe_url }}}}">{_("Unsubscribe")}</a>',
                )
            ),
        },
    ]


def _framed(inner: list[str], foot: str) -> str:
    table = _TABLE.format("max-width:600px;margin:0 auto;background:#ffffff;border-radius:8px")
    return _FRAME.format(fonts=_FONTS, table=table, inner="\n".join(inner), foot=foot)
