// Bounds the memory that the bodies read by `entry.js` take, in bytes. `body/budget.rs` counts those that Rust reads.
//
// The platform ends a request silently when its client disconnects, so its charge may never be released. While little
// is charged, bodies are not watched: that costs nothing, and at most `UNWATCHED` is lost. Above it a body has to
// arrive in time, and a charge that is older than any request is dropped.

import { in_time } from "./host.js";

// The memory that they may take together, and the part of it that is charged before bodies are watched.
const SHARE = 20_000_000;
const UNWATCHED = 6_000_000;
// A body is in memory as it arrived and in its message. A small one is also copied for Rust, and each request takes
// some more.
const COPIES = 2;
const OVERHEAD = 8_192;
// A charge is dropped after one to two turns.
const TURN_MS = 120_000;
// How long a body that is watched may take to arrive.
const READ_WITHIN_MS = 10_000;

let unwatched = 0;
let turn = 1;
let turn_began = 0;
let of_this_turn = 0;
let of_last_turn = 0;

const cost = (bytes) => COPIES * bytes + OVERHEAD;

/** Charges a body. Returns the argument for `free` (0 if the body is not watched), or undefined if there is no room. */
export function charge(bytes) {
  const cost_of_it = cost(bytes);
  if (unwatched + of_this_turn + of_last_turn + cost_of_it <= UNWATCHED) {
    unwatched += cost_of_it;
    return 0;
  }
  const now = Date.now();
  if (now - turn_began >= TURN_MS) {
    of_last_turn = now - turn_began < 2 * TURN_MS ? of_this_turn : 0;
    of_this_turn = 0;
    turn += 1;
    turn_began = now;
  }
  if (unwatched + of_this_turn + of_last_turn + cost_of_it > SHARE) return undefined;
  of_this_turn += cost_of_it;
  return turn;
}

/** Releases a charge. */
export function free(charged, bytes) {
  if (charged === 0) unwatched -= cost(bytes);
  else if (charged === turn) of_this_turn -= cost(bytes);
  // A charge that was dropped is not released again.
  else if (charged === turn - 1 && of_last_turn > 0) of_last_turn -= cost(bytes);
}

/** Reads a body that is watched; undefined if it does not arrive in time. */
export function read_watched(request) {
  return in_time(request.bytes(), READ_WITHIN_MS);
}
