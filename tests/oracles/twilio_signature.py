"""Verifies signatures of Twilio's as its customers do, with the package `twilio`.

Reads one JSON object a line, {"token", "url", "params", "body", "signature"}, where params is a list of
names and values and body is null for a form, and answers each with a line: "accepted" or "refused", and
the signature as the package makes it.
"""

import json
import sys

from twilio.request_validator import RequestValidator


class Params(dict):
    """A form's parameters, some of them several times, as web frameworks hand them over."""

    def __init__(self, pairs):
        super().__init__(pairs)
        self.pairs = pairs

    def getall(self, wanted):
        return [value for name, value in self.pairs if name == wanted]


for line in sys.stdin:
    case = json.loads(line)
    validator = RequestValidator(case["token"])
    params = Params(case["params"])
    is_form = case["body"] is None
    holds = validator.validate(case["url"], params if is_form else case["body"], case["signature"])
    signature = validator.compute_signature(case["url"], params if is_form else {})
    print("accepted" if holds else "refused", signature)
