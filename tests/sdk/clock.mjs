// The clock of the SDKs, which read it themselves: it stands still at the time of the job.
//
// Node loads this file before check.mjs and read.mjs (--import), so that an SDK finds no other clock.

const RealDate = Date;
let now_ms = 0;

globalThis.Date = class extends RealDate {
  constructor(...parts) {
    super(...(parts.length === 0 ? [now_ms] : parts));
  }
  static now() {
    return now_ms;
  }
};

globalThis.standStillAt = (seconds) => {
  now_ms = seconds * 1000;
};
