// The clock of the SDKs, which read it themselves: it is fixed at the time of the job.
//
// Node loads this file before check.mjs and read.mjs (--import), so that no SDK can keep the real clock.

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
