//! A verifier of Standard Webhooks that shares nothing with the daemon: HMAC by its definition (RFC 2104).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

const BLOCK: usize = 64;

fn hmac_sha256(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut block = [0u8; BLOCK];
    if key.len() > BLOCK {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let padded = |pad: u8| block.map(|byte| byte ^ pad);
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize().to_vec()
}

/// True if one of the signatures of a message was made with a secret.
pub(crate) fn is_signed(secret: &str, id: &str, timestamp: &str, body: &str, signatures: &str) -> bool {
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let wanted = STANDARD.encode(hmac_sha256(&key, format!("{id}.{timestamp}.{body}").as_bytes()));
    signatures.split(' ').any(|signature| signature.split_once(',') == Some(("v1", wanted.as_str())))
}

#[test]
fn the_verifier_accepts_the_published_vector_and_example() {
    // RFC 4231, test cases 2 and 6.
    let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let short = hmac_sha256(b"Jefe", b"what do ya want for nothing?");
    assert_eq!(hex(short), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    let long = hmac_sha256(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First");
    assert_eq!(hex(long), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    let (secret, id) = ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek");
    let signature = "v1a,x v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    assert!(is_signed(secret, id, "1614265330", "{\"test\": 2432232314}", signature));
    assert!(!is_signed(secret, id, "1614265331", "{\"test\": 2432232314}", signature));
}
