// Node's fetch with a stream as its body: POSTs standard input to a URL, prints status and body.
import {Readable} from "node:stream";

const answer = await fetch(process.argv[2], {
  method: "POST",
  headers: {"Content-Type": "application/json"},
  body: Readable.toWeb(process.stdin),
  duplex: "half",
});
console.log(answer.status);
console.log(await answer.text());
