"""Phone numbers are kept in E.164; whose a number without its country is, is never guessed."""

import pytest

from apps.subscriptions.validation import normal_token
from automata_signal.errors import ValidationFailed


@pytest.mark.parametrize(
    ("given", "country", "kept"),
    [
        ("+821012345678", "", "+821012345678"),
        ("+82 (0)10-1234-5678", "", "+821012345678"),
        ("010-1234-5678", "KR", "+821012345678"),
        ("02 312 3456", "kr", "+8223123456"),
        ("(415) 555-2671", "US", "+14155552671"),
        ("+1 415 555 2671", "KR", "+14155552671"),
        ("０１０１２３４５６７８", "KR", "+821012345678"),
    ],
)
@pytest.mark.parametrize("type_", ["SMS", "KakaoTalk"])
def test_a_number_has_one_form(type_, given, country, kept):
    assert normal_token(type_, given, country) == kept


@pytest.mark.parametrize(
    ("given", "country", "problem"),
    [
        ("01012345678", "", "country_code says whose it is"),
        ("+999123456789", "", "of any country"),
        ("+8210123", "", "too short"),
        ("+82101234567890", "", "no mobile number"),
        ("+1415555", "", "too short"),
        ("+4915112345678901234", "", "too long"),
        ("1-800-FLOWERS", "US", "digits with"),
        ("+821012345678;ext=5", "", "digits with"),
        ("+82101234567\n8", "", "digits with"),
        ("", "KR", "digits with"),
        ("+" * 5_000, "", "digits with"),
    ],
)
def test_what_is_no_number_is_refused_with_the_reason(given, country, problem):
    with pytest.raises(ValidationFailed) as refused:
        normal_token("SMS", given, country)
    (found,) = refused.value.details
    assert (found.field, problem in found.message) == ("token", True), found


def test_a_registration_may_say_the_country(server, application):
    answer = server.post("subscriptions", {"type": "SMS", "token": "010-2222-3333", "country_code": "KR"})
    assert answer.status_code == 201
    again = server.post("subscriptions", {"type": "SMS", "token": "+82 10 2222 3333"})
    assert again.json()["data"]["id"] == answer.json()["data"]["id"]
    assert server.post("subscriptions", {"type": "SMS", "token": "010-2222-3333"}).status_code == 400
