"""Code to begin with: what an app or a server has to send, with this application's addresses and key.

The key itself is in it only in the answer to the request that made it; else the place to put it is named. What the
snippets send is what `docs/api.md` describes; a test runs them.
"""

from __future__ import annotations

from dataclasses import dataclass
from string import Template
from typing import Any

from django.utils.translation import gettext_lazy as _


@dataclass(frozen=True)
class Snippet:
    name: str
    """Of its element in the page."""
    label: str
    about: Any
    code: str


_IOS = """\
import Foundation
import UIKit

/// Call it from application(_:didRegisterForRemoteNotificationsWithDeviceToken:), at each start of the app.
func registerWithAutomataSignal(deviceToken: Data) {
    var request = URLRequest(url: URL(string: "$api/subscriptions")!)
    request.httpMethod = "POST"
    request.setValue("Bearer $key", forHTTPHeaderField: "Authorization")
    request.setValue("application/json", forHTTPHeaderField: "Content-Type")
    request.httpBody = try? JSONSerialization.data(withJSONObject: [
        "type": "iOSPush",
        "token": deviceToken.map { String(format: "%02x", $$0) }.joined(),
        "enabled": true,
        "device_os": UIDevice.current.systemVersion,
        "device_language": Locale.preferredLanguages.first ?? "en",
    ])
    URLSession.shared.dataTask(with: request) { data, _, _ in
        guard let data,
              let answer = try? JSONSerialization.jsonObject(with: data) as? [String: Any],
              let subscription = answer["data"] as? [String: Any] else { return }
        // Keep both; the handle proves that the subscription is this device's. Keep it secret (Keychain).
        UserDefaults.standard.set(subscription["id"], forKey: "automata_subscription_id")
        UserDefaults.standard.set(subscription["handle"], forKey: "automata_handle")
    }.resume()
}
"""

_ANDROID = """\
import java.net.HttpURLConnection
import java.net.URL
import java.util.Locale
import org.json.JSONObject

/** Call it from FirebaseMessagingService.onNewToken and at each start of the app, on a background thread. */
fun registerWithAutomataSignal(token: String): JSONObject {
    val connection = URL("$api/subscriptions").openConnection() as HttpURLConnection
    connection.requestMethod = "POST"
    connection.doOutput = true
    connection.setRequestProperty("Authorization", "Bearer $key")
    connection.setRequestProperty("Content-Type", "application/json")
    val body = JSONObject()
        .put("type", "AndroidPush")
        .put("token", token)
        .put("enabled", true)
        .put("device_os", android.os.Build.VERSION.RELEASE)
        .put("device_language", Locale.getDefault().toLanguageTag())
    connection.outputStream.use { it.write(body.toString().toByteArray()) }
    val answer = connection.inputStream.bufferedReader().use { it.readText() }
    // Keep "id" and "handle"; the handle proves that the subscription is this device's. Keep it secret.
    return JSONObject(answer).getJSONObject("data")
}
"""

_WEB = """\
// In-app messages on the web: a token of your choice that nobody can guess, kept for this browser.
const token = localStorage.automataToken ??= crypto.randomUUID().replaceAll("-", "");
const answer = await fetch("$api/subscriptions", {
  method: "POST",
  headers: { "Authorization": "Bearer $key", "Content-Type": "application/json" },
  body: JSON.stringify({
    type: "InAppMessage",
    token,
    enabled: true,
    device_language: navigator.language,
  }),
});
const { data } = await answer.json();
localStorage.automataSubscription = data.id;
localStorage.automataHandle = data.handle; // proves that the subscription is this browser's
"""

_CURL_DEVICE = """\
curl -s $api/subscriptions \\
  -H "Authorization: Bearer $key" \\
  -H "Content-Type: application/json" \\
  -d '{"type": "iOSPush", "token": "$token", "enabled": true, "device_language": "en"}'
"""

_CURL = """\
curl -s $api/messages \\
  -H "Authorization: Bearer $key" \\
  -H "Content-Type: application/json" \\
  -d '{
    "channel_type": "push",
    "recipients": {"external_ids": ["customer-1001"]},
    "title": "Hello",
    "body": "This is your first message."
  }'
"""

_PYTHON = """\
import json
import urllib.request

API = "$api"
SECRET_KEY = "$key"  # keep it on the server: in the environment, not in the code


def send(external_id: str, title: str, body: str) -> dict:
    message = {
        "channel_type": "push",
        "recipients": {"external_ids": [external_id]},
        "title": title,
        "body": body,
    }
    request = urllib.request.Request(
        f"{API}/messages",
        data=json.dumps(message).encode(),
        headers={"Authorization": f"Bearer {SECRET_KEY}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["data"]


print(send("customer-1001", "Hello", "This is your first message."))
"""

_NODE = """\
const API = "$api";
const SECRET_KEY = process.env.AUTOMATA_SECRET_KEY; // $key

const answer = await fetch(`$${API}/messages`, {
  method: "POST",
  headers: { "Authorization": `Bearer $${SECRET_KEY}`, "Content-Type": "application/json" },
  body: JSON.stringify({
    channel_type: "push",
    recipients: { external_ids: ["customer-1001"] },
    title: "Hello",
    body: "This is your first message.",
  }),
});
console.log(answer.status, (await answer.json()).data);
"""

_CURL_CHECK = """\
curl -s $api/application -H "Authorization: Bearer $key"
"""


def _filled(template: str, **values: str) -> str:
    return Template(template).substitute(values)


def api_address(public_url: str) -> str:
    return f"{public_url.rstrip('/')}/api/v1"


def device_snippets(public_url: str, key: str) -> list[Snippet]:
    """What an app does: register its device. `key` is a publishable one, or where it is to be put."""
    values = {"api": api_address(public_url), "key": key, "token": "a5" + "0" * 61 + "1"}
    return [
        Snippet("ios", "iOS (Swift)", _("Registers the device for push by APNs."), _filled(_IOS, **values)),
        Snippet(
            "android", "Android (Kotlin)", _("Registers the device for push by FCM."), _filled(_ANDROID, **values)
        ),
        Snippet("web", "Web (JavaScript)", _("Registers a browser for in-app messages."), _filled(_WEB, **values)),
        Snippet(
            "curl-device", "curl", _("The same call by hand, to try it."), _filled(_CURL_DEVICE, **values)
        ),
    ]  # fmt: skip


def server_snippets(public_url: str, key: str) -> list[Snippet]:
    """What a server does: send a message. `key` is a secret one, or where it is to be put."""
    values = {"api": api_address(public_url), "key": key}
    about = _("Sends a push to a user of yours.")
    return [
        Snippet("curl", "curl", about, _filled(_CURL, **values)),
        Snippet("python", "Python", about, _filled(_PYTHON, **values)),
        Snippet("node", "Node.js", about, _filled(_NODE, **values)),
    ]


def check_snippet(public_url: str, key: str) -> str:
    """A call that says which application a secret key stands for."""
    return _filled(_CURL_CHECK, api=api_address(public_url), key=key)
