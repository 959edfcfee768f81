// Validates messages of Amazon SNS with its own package, for both programs: globalThis.validatedBySns(job).

import { EventEmitter } from "node:events";
import { createRequire } from "node:module";

const require = createRequire(`${process.cwd()}/`);

// Returns the message of a job after its signature has been verified. The package fetches the certificate, so its
// https.get is replaced by one that returns the key of the job.
globalThis.validatedBySns = async (job) => {
  const https = require("node:https");
  const Validator = require("sns-validator");
  https.get = (url, answer) => {
    const response = new EventEmitter();
    response.statusCode = url in job.keys ? 200 : 404;
    answer(response);
    response.emit("data", Buffer.from(job.keys[url] ?? ""));
    response.emit("end");
    return new EventEmitter();
  };
  return new Promise((resolve, reject) => {
    new Validator().validate(JSON.parse(job.body), (error, message) => (error ? reject(error) : resolve(message)));
  });
};
