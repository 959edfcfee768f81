//! How often an address may send a wrong token. Each one costs a statement of the database, and may be a guess.
//!
//! An address that has sent too many waits. A token of the deployment's settings is compared before, without a
//! statement, and a token that was accepted lately does not wait either: otherwise a stranger behind the same proxy
//! could lock everyone else out.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use super::token_form::Hash;

/// How many wrong tokens an address may send at once.
pub const BURST: u32 = 100;

/// After that, one wrong token is allowed in each of these periods.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// How many addresses are remembered. When there are more, the one that has sent the fewest wrong tokens is forgotten.
pub const MAX_ADDRESSES: usize = 4_096;

/// How many accepted tokens are remembered, by their hashes. This exempts them from waiting and from nothing else: each
/// request still looks its token up.
pub const MAX_ACCEPTED: usize = 1_024;

/// How long an accepted token is remembered.
pub const ACCEPTED_FOR: Duration = Duration::from_secs(3_600);

/// The addresses that have sent wrong tokens, and the tokens that were accepted lately.
#[derive(Debug, Default)]
pub struct WrongTokens {
    /// When each address will have its whole burst again.
    recovered_at: HashMap<IpAddr, Instant>,
    /// When each token was last accepted.
    accepted_at: HashMap<Hash, Instant>,
}

impl WrongTokens {
    /// How long a caller at this address has to wait before its token is looked up; `None` if it need not.
    #[must_use]
    pub fn wait(&self, from: IpAddr, hash: &Hash, now: Instant) -> Option<Duration> {
        let is_known = |accepted: &Instant| now.saturating_duration_since(*accepted) < ACCEPTED_FOR;
        if self.accepted_at.get(hash).is_some_and(is_known) {
            return None;
        }
        let left = self.recovered_at.get(&network(from))?.saturating_duration_since(now);
        let wait = left.saturating_sub(INTERVAL * (BURST - 1));
        (!wait.is_zero()).then_some(wait)
    }

    /// Notes that this address has sent a wrong token.
    pub fn wrong(&mut self, from: IpAddr, now: Instant) {
        let from = network(from);
        if !self.recovered_at.contains_key(&from) && self.recovered_at.len() >= MAX_ADDRESSES {
            self.recovered_at.retain(|_, recovered| *recovered > now);
            if self.recovered_at.len() >= MAX_ADDRESSES {
                let first = self.recovered_at.iter().min_by_key(|(_, recovered)| **recovered);
                if let Some(first) = first.map(|(address, _)| *address) {
                    self.recovered_at.remove(&first);
                }
            }
        }
        let recovered = self.recovered_at.entry(from).or_insert(now);
        *recovered = (*recovered).max(now) + INTERVAL;
    }

    /// Notes that a token was accepted.
    pub fn accepted(&mut self, hash: Hash, now: Instant) {
        if !self.accepted_at.contains_key(&hash) && self.accepted_at.len() >= MAX_ACCEPTED {
            let oldest = self.accepted_at.iter().min_by_key(|(_, accepted)| **accepted);
            if let Some(oldest) = oldest.map(|(hash, _)| *hash) {
                self.accepted_at.remove(&oldest);
            }
        }
        self.accepted_at.insert(hash, now);
    }

    /// Forgets that a token was accepted, because it no longer is.
    pub fn refused(&mut self, hash: &Hash) {
        self.accepted_at.remove(hash);
    }
}

/// The addresses that count as one. A host with an IPv6 address usually has all 2^64 addresses of its network.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const GUESS: Hash = [1; 32];

    #[test]
    fn after_a_burst_an_address_waits_and_then_has_one_try_in_each_period() {
        let (mut tokens, now) = (WrongTokens::default(), Instant::now());
        for _ in 0..BURST {
            assert_eq!(tokens.wait(HERE, &GUESS, now), None);
            tokens.wrong(HERE, now);
        }
        assert_eq!(tokens.wait(HERE, &GUESS, now), Some(INTERVAL));
        assert_eq!(tokens.wait(HERE, &GUESS, now + INTERVAL / 4), Some(INTERVAL * 3 / 4));
        assert_eq!(tokens.wait("192.0.2.1".parse().expect("an address"), &GUESS, now), None);
        assert_eq!(tokens.wait(HERE, &GUESS, now + INTERVAL), None);
        tokens.wrong(HERE, now + INTERVAL);
        assert_eq!(tokens.wait(HERE, &GUESS, now + INTERVAL), Some(INTERVAL));
        assert_eq!(tokens.wait(HERE, &GUESS, now + INTERVAL * (BURST + 1)), None);
    }

    #[test]
    fn a_token_that_was_accepted_lately_does_not_wait_until_it_is_refused() {
        let (mut tokens, now) = (WrongTokens::default(), Instant::now());
        (0..BURST).for_each(|_| tokens.wrong(HERE, now));
        let known = [2; 32];
        assert!(tokens.wait(HERE, &known, now).is_some());
        tokens.accepted(known, now);
        assert_eq!(tokens.wait(HERE, &known, now), None);
        assert!(tokens.wait(HERE, &GUESS, now).is_some(), "another token waits");
        tokens.refused(&known);
        assert!(tokens.wait(HERE, &known, now).is_some());
        tokens.accepted(known, now);
        (0..BURST * 60).for_each(|_| tokens.wrong(HERE, now + ACCEPTED_FOR));
        assert!(tokens.wait(HERE, &known, now + ACCEPTED_FOR).is_some(), "it is not remembered for ever");
    }

    #[test]
    fn the_tables_are_bounded_and_the_worst_addresses_stay() {
        let (mut tokens, now) = (WrongTokens::default(), Instant::now());
        (0..BURST).for_each(|_| tokens.wrong(HERE, now));
        for number in 0..3 * MAX_ADDRESSES {
            let number = u32::try_from(number).expect("fits");
            tokens.wrong(IpAddr::V4((0x0a00_0000 + number).into()), now);
            tokens.accepted(hash_of(number), now);
        }
        assert_eq!((tokens.recovered_at.len(), tokens.accepted_at.len()), (MAX_ADDRESSES, MAX_ACCEPTED));
        assert!(tokens.wait(HERE, &GUESS, now).is_some());
    }

    fn hash_of(number: u32) -> Hash {
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&number.to_be_bytes());
        hash
    }

    #[test]
    fn the_addresses_of_a_network_count_as_one() {
        let address = |text: &str| network(text.parse().expect("an address"));
        assert_eq!(address("2001:db8:1:2:3::4"), address("2001:db8:1:2:ffff::1"));
        assert_ne!(address("2001:db8:1:2::1"), address("2001:db8:1:3::1"));
        assert_eq!(address("::ffff:192.0.2.1"), address("192.0.2.1"));
    }
}
