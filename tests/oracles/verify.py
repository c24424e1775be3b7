"""Verifies callbacks as their receivers do, with the package `standardwebhooks`.

Reads one JSON object a line, {"verifier", "headers", "body"} with the body in base64, and answers each
with a line: "accepted", or "refused" and why. Anything but the library's own refusal is an error.
"""

import base64
import json
import sys

from standardwebhooks import Webhook, WebhookVerificationError

for line in sys.stdin:
    case = json.loads(line)
    try:
        Webhook(case["verifier"]).verify(base64.b64decode(case["body"]), case["headers"])
        print("accepted")
    except WebhookVerificationError as refusal:
        print(f"refused: {refusal}")
