// Tells how texts go over the air by the package `sms-segments-calculator`, which is Twilio's.
//
// Reads one JSON object a line, {"text", "smart"}, and answers each with a line: the encoding and the
// number of segments. All answers come at the end, so that who asks need not read meanwhile. The package
// is looked for in the folder that is given.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const { SegmentedMessage } = createRequire(`${process.argv[2]}/`)("sms-segments-calculator");

const answers = [];
for await (const line of createInterface({ input: process.stdin })) {
  const { text, smart } = JSON.parse(line);
  const message = new SegmentedMessage(text, "auto", smart);
  answers.push(`${message.encodingName} ${message.segmentsCount}`);
}
console.log(answers.join("\n"));
