//! Public keys of providers, and the verification of their signatures.
//!
//! An algorithm belongs to a kind of key. The rule chooses the algorithm, never the sender, and a key of another kind
//! verifies nothing with it.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use der::asn1::{AnyRef, ObjectIdentifier, UintRef};
use der::{Decode as _, Reader as _};
use p256::ecdsa::signature::hazmat::PrehashVerifier as _;
use rsa::{BoxedUint, Pkcs1v15Sign};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use spki::SubjectPublicKeyInfoRef;

use crate::scheme::rule::Algorithm;

/// The sizes of an RSA modulus that are accepted, in bits: below, keys can be broken, and above they only cost time.
pub const RSA_BITS: RangeInclusive<usize> = 2_048..=4_096;

const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// The size of a key of Ed25519, in bytes.
pub(super) const ED25519_BYTES: usize = 32;

/// The size of a coordinate, and of each half of a signature, of P-256.
const P256_BYTES: usize = 32;

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicKey {
    /// RFC 8032.
    Ed25519(ed25519_dalek::VerifyingKey),
    /// FIPS 186-5 over the curve P-256.
    P256(p256::ecdsa::VerifyingKey),
    /// RFC 8017.
    Rsa(Box<rsa::PublicKey>),
}

/// An algorithm, and the encoding of its signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureAlgorithm {
    /// Pure Ed25519 (RFC 8032).
    Ed25519,
    /// ECDSA over P-256 with SHA-256; the signature is an ASN.1 `SEQUENCE` of r and s (RFC 3279 section 2.2.3).
    P256Der,
    /// The same; the signature is r and s of 32 bytes each (RFC 7518 section 3.4).
    P256Raw,
    /// RSASSA-PKCS1-v1_5 with SHA-1 (RFC 8017 section 8.2).
    RsaSha1,
    /// The same with SHA-256.
    RsaSha256,
}

impl Algorithm {
    /// The algorithm of its public keys; `None` if it verifies with a shared secret.
    #[must_use]
    pub const fn of_public_key(self) -> Option<SignatureAlgorithm> {
        match self {
            Self::HmacSha1 | Self::HmacSha256 | Self::HmacSha512 | Self::Sha256 => None,
            Self::Ed25519 => Some(SignatureAlgorithm::Ed25519),
            Self::EcdsaP256Sha256Der => Some(SignatureAlgorithm::P256Der),
            Self::RsaPkcs1Sha1 => Some(SignatureAlgorithm::RsaSha1),
            Self::RsaPkcs1Sha256 => Some(SignatureAlgorithm::RsaSha256),
        }
    }
}

impl SignatureAlgorithm {
    /// The lengths that a signature can have, in bytes.
    #[must_use]
    pub const fn lengths(self) -> RangeInclusive<usize> {
        match self {
            Self::Ed25519 | Self::P256Raw => 64..=64,
            // Two integers of up to 33 bytes, each with two bytes before it, and two before both.
            Self::P256Der => 8..=72,
            Self::RsaSha1 | Self::RsaSha256 => *RSA_BITS.start() / 8..=*RSA_BITS.end() / 8,
        }
    }

    /// Whether the key is of the kind that signs with this algorithm.
    #[must_use]
    pub const fn takes(self, key: &PublicKey) -> bool {
        match (self, key) {
            (Self::Ed25519, PublicKey::Ed25519(_))
            | (Self::P256Der | Self::P256Raw, PublicKey::P256(_))
            | (Self::RsaSha1 | Self::RsaSha256, PublicKey::Rsa(_)) => true,
            (Self::Ed25519, PublicKey::P256(_) | PublicKey::Rsa(_))
            | (Self::P256Der | Self::P256Raw, PublicKey::Ed25519(_) | PublicKey::Rsa(_))
            | (Self::RsaSha1 | Self::RsaSha256, PublicKey::Ed25519(_) | PublicKey::P256(_)) => false,
        }
    }

    /// A signature without the structure around it; `None` if it is not of this form.
    pub(super) fn raw_signature(self, signature: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::P256Der => Some(p256_from_der(signature)?.to_bytes().to_vec()),
            Self::Ed25519 | Self::P256Raw | Self::RsaSha1 | Self::RsaSha256 => Some(signature.to_vec()),
        }
    }

    /// The input of the signature: the message itself or its hash. It is made once, however many keys and signatures
    /// are tried.
    #[must_use]
    pub fn input(self, message: &[Cow<'_, [u8]>]) -> Vec<u8> {
        match self {
            Self::Ed25519 => message.concat(),
            Self::RsaSha1 => digest::<Sha1>(message),
            Self::P256Der | Self::P256Raw | Self::RsaSha256 => digest::<Sha256>(message),
        }
    }
}

impl PublicKey {
    /// An Ed25519 key from its 32 bytes; `None` for a point of small order, which verifies signatures that no key made.
    #[must_use]
    pub fn ed25519(bytes: &[u8]) -> Option<Self> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(bytes.try_into().ok()?).ok()?;
        (!key.is_weak()).then_some(Self::Ed25519(key))
    }

    /// A key of P-256 from its two coordinates of 32 bytes; `None` if they are not a point of the curve.
    #[must_use]
    pub fn p256(x: &[u8], y: &[u8]) -> Option<Self> {
        // The first byte says that both coordinates follow, of half of the rest each (SEC 1 section 2.3.3).
        let point = (x.len() == P256_BYTES).then(|| [&[4], x, y].concat())?;
        p256::ecdsa::VerifyingKey::from_sec1_bytes(&point).ok().map(Self::P256)
    }

    /// An RSA key from its modulus and exponent, big-endian; `None` if the size of the modulus is not in [`RSA_BITS`].
    #[must_use]
    pub fn rsa(modulus: &[u8], exponent: &[u8]) -> Option<Self> {
        let too_long = modulus.len() > RSA_BITS.end() / 8 + 1 || exponent.len() > 8;
        let integer = |bytes| (!too_long).then(|| BoxedUint::from_be_slice_vartime(bytes));
        let key = rsa::PublicKey::new_with_size_limits(integer(modulus)?, integer(exponent)?, RSA_BITS).ok()?;
        Some(Self::Rsa(Box::new(key)))
    }

    /// A key from its `SubjectPublicKeyInfo` in DER (RFC 5280 section 4.1.2.7), the form of certificates and of PEM files.
    #[must_use]
    pub fn from_spki(der: &[u8]) -> Option<Self> {
        let spki = SubjectPublicKeyInfoRef::from_der(der).ok()?;
        let bytes = spki.subject_public_key.as_bytes()?;
        match spki.algorithm.oid {
            ED25519 => Self::ed25519(bytes),
            RSA => {
                let (modulus, exponent) = two_integers(bytes)?;
                Self::rsa(modulus.as_bytes(), exponent.as_bytes())
            }
            EC_PUBLIC_KEY if spki.algorithm.parameters_oid() == Ok(P256) => {
                p256::ecdsa::VerifyingKey::from_sec1_bytes(bytes).ok().map(Self::P256)
            }
            _ => None,
        }
    }

    /// The key in the format `raw` of the Web Cryptography API; `None` for RSA, which has no such format.
    pub(super) fn raw(&self) -> Option<Vec<u8>> {
        match self {
            Self::Ed25519(key) => Some(key.to_bytes().to_vec()),
            Self::P256(key) => Some(key.to_sec1_point(false).as_bytes().to_vec()),
            Self::Rsa(_) => None,
        }
    }

    /// Whether this key made the signature. `input` is the result of [`SignatureAlgorithm::input`].
    #[must_use]
    pub fn verifies(&self, algorithm: SignatureAlgorithm, input: &[u8], signature: &[u8]) -> bool {
        match (algorithm, self) {
            (SignatureAlgorithm::Ed25519, Self::Ed25519(key)) => ed25519_dalek::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(input, &signature).is_ok()),
            (SignatureAlgorithm::P256Der, Self::P256(key)) => verifies_p256(key, input, p256_from_der(signature)),
            (SignatureAlgorithm::P256Raw, Self::P256(key)) => {
                verifies_p256(key, input, p256::ecdsa::Signature::from_slice(signature).ok())
            }
            (SignatureAlgorithm::RsaSha1, Self::Rsa(key)) => {
                key.verify(Pkcs1v15Sign::new::<Sha1>(), input, signature).is_ok()
            }
            (SignatureAlgorithm::RsaSha256, Self::Rsa(key)) => {
                key.verify(Pkcs1v15Sign::new::<Sha256>(), input, signature).is_ok()
            }
            (SignatureAlgorithm::Ed25519, Self::P256(_) | Self::Rsa(_))
            | (SignatureAlgorithm::P256Der | SignatureAlgorithm::P256Raw, Self::Ed25519(_) | Self::Rsa(_))
            | (SignatureAlgorithm::RsaSha1 | SignatureAlgorithm::RsaSha256, Self::Ed25519(_) | Self::P256(_)) => false,
        }
    }
}

fn digest<D: Digest>(message: &[Cow<'_, [u8]>]) -> Vec<u8> {
    let mut hash = D::new();
    message.iter().for_each(|piece| hash.update(piece));
    hash.finalize().to_vec()
}

/// An s in the upper half is accepted: providers send it, and no event is identified by its signature.
fn verifies_p256(key: &p256::ecdsa::VerifyingKey, hash: &[u8], signature: Option<p256::ecdsa::Signature>) -> bool {
    signature.is_some_and(|signature| key.verify_prehash(hash, &signature).is_ok())
}

fn p256_from_der(der: &[u8]) -> Option<p256::ecdsa::Signature> {
    let (r, s) = two_integers(der)?;
    let mut raw = [0; 2 * P256_BYTES];
    let (left, right) = raw.split_at_mut(P256_BYTES);
    for (half, integer) in [(left, r), (right, s)] {
        let from = P256_BYTES.checked_sub(integer.as_bytes().len())?;
        half.get_mut(from..)?.copy_from_slice(integer.as_bytes());
    }
    p256::ecdsa::Signature::from_slice(&raw).ok()
}

/// A `SEQUENCE` of two positive integers: the form of both an RSA key and an ECDSA signature in DER.
fn two_integers(der: &[u8]) -> Option<(UintRef<'_>, UintRef<'_>)> {
    AnyRef::from_der(der).ok()?.sequence(|reader| Ok::<_, der::Error>((reader.decode()?, reader.decode()?))).ok()
}

#[cfg(test)]
mod tests;
