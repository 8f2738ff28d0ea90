//! Random numbers that follow from a seed, the same in every version: BLAKE3 as a stream.

use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A stream of random numbers.
#[derive(Debug)]
pub(in crate::simulate) struct Noise(blake3::OutputReader);

impl Noise {
    /// The stream of `number` under `key`.
    pub fn new(key: &[u8; 32], number: u64) -> Self {
        Self(blake3::Hasher::new_keyed(key).update(&number.to_le_bytes()).finalize_xof())
    }

    /// Any number.
    pub fn next(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A number below `bound`, nearly even; 0 if the bound is.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The high half of the product: no division, and a bias of at most bound / 2^64.
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// True in a share of the cases, from 0 (never) to 1 (always).
    pub fn hit(&mut self, share: f64) -> bool {
        share > 0.0 && (self.next() >> 11) as f64 / ((1u64 << 53) as f64) < share
    }

    /// `0x` and so many random bytes in hexadecimal.
    pub fn hex(&mut self, bytes: usize) -> String {
        hex(&self.bytes(bytes))
    }

    /// So many random bytes in base64.
    pub fn base64(&mut self, bytes: usize) -> String {
        base64(&self.bytes(bytes))
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut raw = vec![0; count];
        // A stream of BLAKE3 has no end and no errors.
        let _ = self.0.read_exact(&mut raw);
        raw
    }
}

/// `0x` and `bytes` in hexadecimal.
pub(in crate::simulate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 + bytes.len() * 2);
    text.push_str("0x");
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// `bytes` in base64, padded.
pub(in crate::simulate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The bytes of `0x` and exactly `2 * N` hexadecimal digits.
pub(in crate::simulate) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.strip_prefix("0x")?.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}
