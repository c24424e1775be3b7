// Verifies callbacks as their receivers do: with the package `standardwebhooks`, and where the verifier
// is a public key, of which the package knows nothing, with the signatures that Node.js has built in.
//
// Reads one JSON object a line, {"verifier", "headers", "body"} with the body in base64, and answers
// each with a line: "accepted", or "refused" and why. Anything but a refusal is an error. The package is
// looked for in the folder that is given.

import { createPublicKey, verify } from "node:crypto";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const { Webhook, WebhookVerificationError } = createRequire(`${process.argv[2]}/`)("standardwebhooks");

// What goes before the 32 bytes of an Ed25519 public key in its DER form (RFC 8410).
const DER_HEAD = Buffer.from("302a300506032b6570032100", "hex");

function verifyWithKey(text, body, headers) {
  const key = Buffer.concat([DER_HEAD, Buffer.from(text.slice("whpk_".length), "base64")]);
  const publicKey = createPublicKey({ key, format: "der", type: "spki" });
  const head = `${headers["webhook-id"]}.${headers["webhook-timestamp"]}.`;
  const content = Buffer.concat([Buffer.from(head), body]);
  const signatures = headers["webhook-signature"].split(" ").filter((text) => text.startsWith("v1a,"));
  const holds = (text) => verify(null, content, publicKey, Buffer.from(text.slice(4), "base64"));
  if (!signatures.some(holds)) {
    throw new WebhookVerificationError("no signature of this key");
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const { verifier, headers, body: base64 } = JSON.parse(line);
  const body = Buffer.from(base64, "base64");
  try {
    if (verifier.startsWith("whpk_")) {
      verifyWithKey(verifier, body, headers);
    } else {
      new Webhook(verifier).verify(body, headers);
    }
    console.log("accepted");
  } catch (error) {
    if (!(error instanceof WebhookVerificationError)) {
      throw error;
    }
    console.log(`refused: ${error.message}`);
  }
}
