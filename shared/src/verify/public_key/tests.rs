use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD as BASE64URL};

use super::*;
use crate::verify::tests::test_keys;

const ALL: [SignatureAlgorithm; 5] = [
    SignatureAlgorithm::Ed25519,
    SignatureAlgorithm::P256Der,
    SignatureAlgorithm::P256Raw,
    SignatureAlgorithm::RsaSha1,
    SignatureAlgorithm::RsaSha256,
];

// Each is signed by openssl over "a message", with keys that were thrown away.
const RSA_SHA256: &str = "qpjUvEWxUe0K+n/hJ98mLCKXJw6v9RCSZvRdFjkKhECGXorFPjgSUKZsnhP5rUbQsGUOFSIFCzD2hGcK5C0xepvMWkCrrT8gR6/5u2XojStVvxOA7GDUgPgI/M1/U3I+8Aom/3synFudkxUmQkhkYDGYr0ZEbVJd4Vbx8CgVov1i78B1SqJZ+709okJ+TOOscEIu0NDCVHVbr4/NL4a3t+khsySNxtfsoXN9wyv81vxqiyLdQ4mLin74kbmH8eqwx9ObRHNZ8e04TdbkgQ4PhqEksLxLtlxNKHvlIo6vFgw+SUXyuOntOpSkH4deCIGPjB8OpyPJ8loER3VWUmaHtg==";
const RSA_SHA1: &str = "MGjV0knY6RL0lIgRUXo5bpTMwWU4xLgJGXtgiMoG9h7JlCTWrzekpc7gga5676wxUysrXzjbdeGjckBVGP6ISZcKnJ7pD+nPi3tTbSMyWZPma31ZrEKnyOmGPaY2G3mJEZAsbZ9YnwlPPXVZJD/+B5QxmHBvkbNutaRCl3YWq8amm1m4BA9v8Jlv7l88KhK+Z9wo48zJeidILpQE2IsLc2MsOON47OQdEk/KGR6fzKV85nBFjSENLB+bu7/5R9ffUFcBt1ag4JauS64F4QXfEi/IozVRyt6y6GCF8qv/dkqXSU1gOZ2+HTJNhS5wkvazDSWBjb8Fx5JUTvBbJWdRig==";
const P256_DER: &str =
    "MEYCIQDW0hrDZHpqyUVy/gXwwGJCsToCf2FOUQtajyJ3LSb6RwIhAPSXhqOaMn4hD3cP91m9bEr5fUF8KKMCObqIH8v2qPGE";

fn openssl() -> [(SignatureAlgorithm, PublicKey, Vec<u8>); 3] {
    let key = |pem: &[u8]| crate::verify::certificate::Certificate::from_pem(pem).expect("a certificate").key;
    let (rsa, p256) =
        (key(include_bytes!("../tests/testdata/rsa.pem")), key(include_bytes!("../tests/testdata/p256.pem")));
    let bytes = |text| BASE64.decode(text).expect("base64");
    [
        (SignatureAlgorithm::RsaSha256, rsa.clone(), bytes(RSA_SHA256)),
        (SignatureAlgorithm::RsaSha1, rsa, bytes(RSA_SHA1)),
        (SignatureAlgorithm::P256Der, p256, bytes(P256_DER)),
    ]
}

fn input(algorithm: SignatureAlgorithm, message: &str) -> Vec<u8> {
    algorithm.input(&[Cow::Borrowed(message.as_bytes())])
}

#[test]
fn a_signature_of_openssl_verifies_with_its_algorithm_and_no_other() {
    for (algorithm, key, signature) in openssl() {
        assert!(algorithm.lengths().contains(&signature.len()), "{algorithm:?}");
        for other in ALL {
            let verifies = key.verifies(other, &input(other, "a message"), &signature);
            assert_eq!(verifies, other == algorithm, "{algorithm:?} as {other:?}");
        }
        assert!(!key.verifies(algorithm, &input(algorithm, "another message"), &signature), "{algorithm:?}");
    }
}

#[test]
fn one_bit_of_a_signature_is_enough_to_refuse_and_so_is_its_length() {
    for (algorithm, key, signature) in openssl() {
        let input = input(algorithm, "a message");
        for bit in 0..signature.len() * 8 {
            let mut changed = signature.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!key.verifies(algorithm, &input, &changed), "{algorithm:?} bit {bit}");
        }
        for changed in [&signature[1..], &signature[..signature.len() - 1], &[&signature[..], &[0]].concat(), b""] {
            assert!(!key.verifies(algorithm, &input, changed), "{algorithm:?} of {} bytes", changed.len());
        }
    }
}

#[test]
fn a_message_may_come_in_pieces() {
    for algorithm in ALL {
        let pieces = [Cow::Borrowed(&b"a "[..]), Cow::Owned(b"mess".to_vec()), Cow::Borrowed(b"age")];
        assert_eq!(algorithm.input(&pieces), input(algorithm, "a message"));
    }
}

#[test]
fn the_two_ways_to_write_an_ecdsa_signature_are_not_taken_for_each_other() {
    let (raw, message) = (test_keys::p256_raw(b"m"), input(SignatureAlgorithm::P256Raw, "m"));
    let jwk = test_keys::p256_jwk("a");
    let coordinate = |name: &str| BASE64URL.decode(jwk[name].as_str().expect("text")).expect("base64url");
    let key = PublicKey::p256(&coordinate("x"), &coordinate("y")).expect("a key");
    assert!(key.verifies(SignatureAlgorithm::P256Raw, &message, &raw));
    assert!(!key.verifies(SignatureAlgorithm::P256Der, &message, &raw));
    let zero = [0; 64];
    assert!(!key.verifies(SignatureAlgorithm::P256Raw, &message, &zero), "r and s are not 0");
    assert!(PublicKey::p256(&coordinate("y"), &coordinate("x")).is_none(), "not on the curve");
    assert!(PublicKey::p256(&[0; 32], &[0; 32]).is_none());
    assert!(PublicKey::p256(&coordinate("x")[1..], &coordinate("y")).is_none());
    let (first, second) = (coordinate("x"), coordinate("y"));
    let moved = [&first[31..], &second[..]].concat();
    assert!(PublicKey::p256(&first[..31], &moved).is_none(), "the same bytes, parted at another place");
}

#[test]
fn an_rsa_signature_is_as_long_as_a_modulus_can_be() {
    for algorithm in [SignatureAlgorithm::RsaSha1, SignatureAlgorithm::RsaSha256] {
        assert_eq!(algorithm.lengths(), 256..=512);
    }
}

#[test]
fn a_modulus_is_neither_small_nor_huge_nor_even() {
    let jwk = test_keys::rsa_jwk("a");
    let modulus = BASE64URL.decode(jwk["n"].as_str().expect("text")).expect("base64url");
    let usable = |modulus: &[u8], exponent: &[u8]| PublicKey::rsa(modulus, exponent).is_some();
    assert!(usable(&modulus, &[1, 0, 1]));
    let zeros = |count: usize, number: &[u8]| [&vec![0; count][..], number].concat();
    assert!(usable(&zeros(257, &modulus), &zeros(5, &[1, 0, 1])), "leading zeros change nothing");
    assert!(!usable(&zeros(258, &modulus), &[1, 0, 1]), "but for what they cost");
    assert!(!usable(&modulus, &zeros(6, &[1, 0, 1])));
    assert!(!usable(&modulus[..modulus.len() - 1], &[1, 0, 1]), "2040 bits");
    let mut even = modulus.clone();
    *even.last_mut().expect("bytes") &= 0xfe;
    assert!(!usable(&even, &[1, 0, 1]));
    let mut huge = modulus.repeat(3);
    *huge.last_mut().expect("bytes") |= 1;
    assert!(!usable(&huge, &[1, 0, 1]));
    for exponent in [&[][..], &[0], &[1], &[2], &[1, 0, 0], &[1; 9]] {
        assert!(!usable(&modulus, exponent), "{exponent:?}");
    }
    assert!(!usable(&[], &[1, 0, 1]));
}

#[test]
fn a_key_of_another_curve_or_kind_is_not_read() {
    let p384 = "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAELPqn8brDv+HMoy+ws8hNnFoBGfrUtwwWJ17G4QQxyEah3yhXq63rUTX2P4n0m0t8eR+QEVyqn2BWhLq1UytaOetO6CK1MgX0W25o81iJDQUqPxeHY51oanexrqAQszLS";
    assert!(PublicKey::from_spki(&BASE64.decode(p384).expect("base64")).is_none());
    let rsa = test_keys::rsa_spki();
    assert!(matches!(PublicKey::from_spki(&rsa), Some(PublicKey::Rsa(_))));
    for length in 0..rsa.len() {
        assert!(PublicKey::from_spki(&rsa[..length]).is_none(), "cut to {length}");
    }
    assert!(PublicKey::from_spki(&[&rsa[..], &[0]].concat()).is_none(), "something follows");
}

#[test]
fn a_key_is_read_by_its_own_algorithm() {
    // RFC 8032 section 7.1, test 1, in the form of RFC 8410.
    let ed25519 = "302a300506032b6570032100d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    let ed25519 = hex::decode(ed25519).expect("hex");
    assert!(matches!(PublicKey::from_spki(&ed25519), Some(PublicKey::Ed25519(_))));

    let p256 = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g==";
    let p256 = BASE64.decode(p256).expect("base64");
    assert!(matches!(PublicKey::from_spki(&p256), Some(PublicKey::P256(_))));
    // 1.3.132.0.10 is secp256k1, which has points of the same size; it replaces 1.2.840.10045.3.1.7.
    let at = p256.windows(8).position(|bytes| bytes == [0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7]).expect("the curve");
    let mut other = p256;
    other.splice(at - 1..at + 8, [5, 0x2b, 0x81, 4, 0, 10]);
    (other[1], other[3]) = (other[1] - 3, other[3] - 3);
    assert!(PublicKey::from_spki(&other).is_none(), "the same bytes as a point of another curve");
}
