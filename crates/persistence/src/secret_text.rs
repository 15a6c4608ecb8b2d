//! The text form of machines' secrets: `ghk_…` for an API key and `ghs_…` for the secret of a service account, then 76 digits
//! in base 62, and the CRC-32 of all that before it as six more. Whoever looks for leaked secrets needs no key to tell that
//! one is whole, as with GitHub's: <https://github.blog/engineering/platform-security/behind-githubs-new-authentication-token-formats/>.

use guildhall_domain::machines::MachineKind;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// So many digits hold 56 bytes.
const LENGTH: usize = 76;
const CHECK: usize = 6;

/// What it begins with.
pub(crate) const fn prefix(kind: MachineKind) -> &'static str {
    match kind {
        MachineKind::ApiKey => "ghk_",
        MachineKind::ServiceAccount => "ghs_",
    }
}

/// Whether it looks like an API key, good or not: what tells it from an access token.
pub fn is_api_key(text: &str) -> bool {
    text.starts_with(prefix(MachineKind::ApiKey))
}

pub(crate) fn write(kind: MachineKind, bytes: &[u8; 56]) -> String {
    let mut number = *bytes;
    let mut digits = [b'0'; LENGTH];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[usize::from(divide(&mut number))];
    }
    let mut text = prefix(kind).to_owned();
    text.extend(digits.iter().map(|digit| char::from(*digit)));
    let check = checksum(&text);
    text.push_str(&check);
    text
}

pub(crate) fn read(kind: MachineKind, text: &str) -> Option<[u8; 56]> {
    let body =
        text.strip_prefix(prefix(kind)).filter(|body| body.len() == LENGTH + CHECK && body.is_ascii())?;
    let (digits, check) = body.split_at(LENGTH);
    if checksum(&text[..text.len() - CHECK]) != check {
        return None;
    }
    let mut number = [0_u8; 56];
    for digit in digits.bytes() {
        let value = DIGITS.iter().position(|known| *known == digit)?;
        multiply_add(&mut number, u16::try_from(value).ok()?)?;
    }
    Some(number)
}

/// How a secret begins: what may be shown of it, so that people can tell which it is.
pub(crate) fn hint(secret: &str) -> String {
    secret.chars().take(12).collect()
}

/// Divides by 62; the remainder.
fn divide(number: &mut [u8; 56]) -> u8 {
    let mut rest = 0_u16;
    for byte in number {
        let value = rest << 8 | u16::from(*byte);
        *byte = u8::try_from(value / 62).unwrap_or(u8::MAX);
        rest = value % 62;
    }
    u8::try_from(rest).unwrap_or(0)
}

/// Multiplies by 62 and adds; `None` for what takes more than 56 bytes.
fn multiply_add(number: &mut [u8; 56], digit: u16) -> Option<()> {
    let mut carry = digit;
    for byte in number.iter_mut().rev() {
        let value = u16::from(*byte) * 62 + carry;
        [_, *byte] = value.to_be_bytes();
        carry = value >> 8;
    }
    (carry == 0).then_some(())
}

fn checksum(text: &str) -> String {
    let mut number = crc32fast::hash(text.as_bytes());
    let mut digits = [b'0'; CHECK];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(number % 62) as usize];
        number /= 62;
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_reads_back_and_one_that_is_changed_anywhere_does_not() {
        for bytes in [[0; 56], [255; 56], std::array::from_fn(|n| (n as u8).wrapping_mul(37))] {
            let text = write(MachineKind::ApiKey, &bytes);
            assert_eq!(text.len(), 4 + LENGTH + CHECK);
            assert_eq!(read(MachineKind::ApiKey, &text), Some(bytes));
            assert_eq!(read(MachineKind::ServiceAccount, &text), None);
            for place in 0..text.len() {
                let mut other = text.clone().into_bytes();
                other[place] = if other[place] == b'7' { b'8' } else { b'7' };
                assert_eq!(read(MachineKind::ApiKey, &String::from_utf8(other).unwrap()), None, "{place}");
            }
        }
        for text in ["", "ghk_", "ghk_é", &"ghk_z".repeat(20)] {
            assert_eq!(read(MachineKind::ApiKey, text), None);
        }
    }
}
