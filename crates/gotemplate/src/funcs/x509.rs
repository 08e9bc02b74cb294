//! Certificates: sprig's `genCA`, `genSelfSignedCert`, `genSignedCert` and `buildCustomCert`, with Go's encoding.
//!
//! Keys and serial numbers come from the seed and the validity from the host's clock, so the same run gives the same
//! certificate.

use std::any::Any;
use std::net::IpAddr;
use std::rc::Rc;

use druse_object::{Map, Value};
use rand::Rng as _;
use rand_chacha::ChaCha20Rng;
use sha2::Digest as _;

use crate::env::{Env, FuncError};
use crate::val::{GoObject, Val};

use super::args::{Args, Res, err};
use super::gotime::Time;
use super::keys::{Key, der, expect, oid, read, seq, to_pem};
use super::{Entry, encoding, gofmt, random};

/// The functions of this theme.
pub const TABLE: &[Entry] = &[
    ("genCA", |env, a| {
        let a = Args::exact("genCA", a, 2)?;
        authority(env, "genCA", a, None)
    }),
    ("genCAWithKey", |env, a| {
        let a = Args::exact("genCAWithKey", a, 3)?;
        authority(env, "genCAWithKey", a, Some(a.str(2)?))
    }),
    ("genSelfSignedCert", |env, a| {
        let a = Args::exact("genSelfSignedCert", a, 4)?;
        leaf(env, "genSelfSignedCert", a, None, None)
    }),
    ("genSelfSignedCertWithKey", |env, a| {
        let a = Args::exact("genSelfSignedCertWithKey", a, 5)?;
        leaf(env, "genSelfSignedCertWithKey", a, None, Some(a.str(4)?))
    }),
    ("genSignedCert", |env, a| {
        let a = Args::exact("genSignedCert", a, 5)?;
        leaf(env, "genSignedCert", a, Some(certificate(a.any(4))?), None)
    }),
    ("genSignedCertWithKey", |env, a| {
        let a = Args::exact("genSignedCertWithKey", a, 6)?;
        leaf(env, "genSignedCertWithKey", a, Some(certificate(a.any(4))?), Some(a.str(5)?))
    }),
    ("buildCustomCert", build_custom),
];

/// `sprig.certificate` in a template: `.Cert` and `.Key`, both PEM.
pub struct Certificate {
    cert: String,
    key: String,
}

impl GoObject for Certificate {
    fn type_name(&self) -> &str {
        "sprig.certificate"
    }
    fn field(&self, name: &str, _: &mut Env<'_>) -> Option<Res> {
        match name {
            "Cert" => Some(Ok(Val::str(self.cert.as_str()))),
            "Key" => Some(Ok(Val::str(self.key.as_str()))),
            _ => None,
        }
    }
    fn display(&self) -> String {
        format!("{{{} {}}}", self.cert, self.key)
    }
    fn to_value(&self) -> Value {
        let mut map = Map::new();
        map.insert("Cert", self.cert.as_str());
        map.insert("Key", self.key.as_str());
        Value::Map(map)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn certificate(v: &Val) -> Result<&Certificate, FuncError> {
    let found = match v {
        Val::Object(o) => o.as_any().downcast_ref(),
        _ => None,
    };
    match found {
        Some(c) => Ok(c),
        None => err(format!("wrong type for value; expected sprig.certificate; got {}", gofmt::type_name(v))),
    }
}

/// What a certificate is to say.
struct Template<'a> {
    cn: &'a str,
    ips: &'a [Val],
    names: &'a [Val],
    days: i64,
    ca: bool,
}

/// Who signs: the encoded subject, the key's identifier if the certificate has one, and the key.
struct Signer {
    subject: Vec<u8>,
    key_id: Option<Vec<u8>>,
    key: Key,
}

fn key_for(rng: &mut ChaCha20Rng, given: Option<&str>) -> Result<Key, FuncError> {
    match given {
        None => Key::rsa(rng, 2048),
        Some(text) => Key::parse(text).map_err(|e| FuncError(format!("parsing private key: {e}"))),
    }
}

fn authority(env: &mut Env<'_>, name: &'static str, a: Args<'_>, key: Option<&str>) -> Res {
    let template = Template { cn: a.str(0)?, ips: &[], names: &[], days: a.int(1)?, ca: true };
    let mut rng = random::generator(env, name);
    let key = key_for(&mut rng, key)?;
    issue(env, &mut rng, &template, &key, None)
}

fn leaf(env: &mut Env<'_>, name: &'static str, a: Args<'_>, ca: Option<&Certificate>, key: Option<&str>) -> Res {
    let template = Template { cn: a.str(0)?, ips: a.list(1)?, names: a.list(2)?, days: a.int(3)?, ca: false };
    let mut rng = random::generator(env, name);
    let key = key_for(&mut rng, key)?;
    let signer = ca.map(signer).transpose()?;
    issue(env, &mut rng, &template, &key, signer.as_ref())
}

/// The parts of a PEM certificate that signing with it needs.
fn signer(ca: &Certificate) -> Result<Signer, FuncError> {
    let Ok(block) = pem::parse(&ca.cert) else {
        return err("unable to decode certificate");
    };
    let Some((subject, key_id)) = subject_and_id(block.contents()) else {
        return err("error parsing certificate: decodedSignerCert.Bytes: x509: malformed certificate");
    };
    let key = Key::parse(&ca.key).map_err(|e| FuncError(format!("error parsing private key: {e}")))?;
    Ok(Signer { subject, key_id, key })
}

fn subject_and_id(data: &[u8]) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
    let (certificate, _) = expect(data, 0x30)?;
    let (mut rest, _) = expect(certificate, 0x30)?;
    if let Some((_, after)) = expect(rest, 0xa0) {
        rest = after;
    }
    // Serial number, signature algorithm, issuer, validity.
    for tag in [2, 0x30, 0x30, 0x30] {
        rest = expect(rest, tag)?.1;
    }
    let subject = read(rest)?;
    let mut rest = expect(subject.rest, 0x30)?.1;
    let mut key_id = None;
    while let Some(part) = read(rest) {
        if part.tag == 0xa3 {
            let (mut list, _) = expect(part.content, 0x30)?;
            while let Some((extension, after)) = expect(list, 0x30) {
                let (id, mut value) = expect(extension, 6)?;
                if let Some((_, after)) = expect(value, 1) {
                    value = after;
                }
                if id == [0x55, 0x1d, 14] {
                    key_id = Some(expect(expect(value, 4)?.0, 4)?.0.to_vec());
                }
                list = after;
            }
        }
        rest = part.rest;
    }
    Some((subject.whole.to_vec(), key_id))
}

fn printable(s: &str) -> bool {
    s.bytes().all(|b| b.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&b))
}

fn subject_of(cn: &str) -> Vec<u8> {
    if cn.is_empty() {
        return seq(&[]);
    }
    let value = der(if printable(cn) { 0x13 } else { 0x0c }, &[cn.as_bytes()]);
    seq(&[&der(0x31, &[&seq(&[&oid(&[0x55, 4, 3]), &value])])])
}

fn time_of(nanos: i128) -> Vec<u8> {
    let t = Time::from_nanos(nanos);
    let year = t.fields().civil.year();
    if (1950..2050).contains(&year) {
        der(0x17, &[t.format("060102150405Z").as_bytes()])
    } else {
        der(0x18, &[t.format("20060102150405Z").as_bytes()])
    }
}

fn extension(id: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let flag: &[u8] = if critical { &[1, 1, 0xff] } else { &[] };
    seq(&[&oid(id), flag, &der(4, &[value])])
}

fn alternative_names(t: &Template<'_>) -> Result<Vec<u8>, FuncError> {
    let mut out = Vec::new();
    let mut addresses = Vec::new();
    for v in t.ips {
        let Val::Str(s) = v else {
            return err(format!("error parsing ip: {} is not a string", gofmt::sprint(v)));
        };
        match s.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
            Ok(IpAddr::V4(ip)) => addresses.extend(der(0x87, &[&ip.octets()])),
            Ok(IpAddr::V6(ip)) => addresses.extend(der(0x87, &[&ip.octets()])),
            Err(_) => return err(format!("error parsing ip: {s}")),
        }
    }
    for v in t.names {
        let Val::Str(s) = v else {
            return err(format!("error processing alternate dns name: {} is not a string", gofmt::sprint(v)));
        };
        if !s.is_ascii() {
            return err(format!(
                "error creating certificate: x509: {} cannot be encoded as an IA5String",
                gofmt::quote(s)
            ));
        }
        out.extend(der(0x82, &[s.as_bytes()]));
    }
    out.extend(addresses);
    Ok(out)
}

fn issue(env: &Env<'_>, rng: &mut ChaCha20Rng, t: &Template<'_>, key: &Key, by: Option<&Signer>) -> Res {
    let mut serial = [0u8; 16];
    rng.fill_bytes(&mut serial);
    let significant = serial.iter().position(|b| *b != 0).and_then(|i| serial.get(i..)).unwrap_or(&[1]);
    let sign: &[u8] = if significant.first().is_some_and(|b| *b >= 0x80) { &[0] } else { &[] };

    let subject = subject_of(t.cn);
    let issuer = by.map_or(&subject, |s| &s.subject);
    let signing_key = by.map_or(key, |s| &s.key);
    let now = env.host.now_unix_nanos();
    let after = now + i128::from(t.days) * 86_400 * 1_000_000_000;

    let mut extensions = extension(&[0x55, 0x1d, 15], true, if t.ca { &[3, 2, 2, 0xa4] } else { &[3, 2, 5, 0xa0] });
    let usage = |last: u8| oid(&[0x2b, 6, 1, 5, 5, 7, 3, last]);
    extensions.extend(extension(&[0x55, 0x1d, 37], false, &seq(&[&usage(1), &usage(2)])));
    let constraints: &[u8] = if t.ca { &[0x30, 3, 1, 1, 0xff] } else { &[0x30, 0] };
    extensions.extend(extension(&[0x55, 0x1d, 19], true, constraints));
    if t.ca {
        let digest = sha2::Sha256::digest(key.public_bits()?);
        let id = der(4, &[digest.get(..20).unwrap_or(&[])]);
        extensions.extend(extension(&[0x55, 0x1d, 14], false, &id));
    }
    if let Some(id) = by.filter(|s| s.subject != subject).and_then(|s| s.key_id.as_ref()) {
        extensions.extend(extension(&[0x55, 0x1d, 35], false, &seq(&[&der(0x80, &[id])])));
    }
    let names = alternative_names(t)?;
    if !names.is_empty() {
        extensions.extend(extension(&[0x55, 0x1d, 17], t.cn.is_empty(), &seq(&[&names])));
    }

    let algorithm = signing_key.signature_algorithm();
    let body = seq(&[
        &[0xa0, 3, 2, 1, 2],
        &der(2, &[sign, significant]),
        &algorithm,
        issuer,
        &seq(&[&time_of(now), &time_of(after)]),
        &subject,
        &key.public_info()?,
        &der(0xa3, &[&seq(&[&extensions])]),
    ]);
    let signature = signing_key.sign(&body)?;
    let whole = seq(&[&body, &algorithm, &der(3, &[&[0], &signature])]);
    Ok(Val::Object(Rc::new(Certificate { cert: to_pem("CERTIFICATE", whole), key: key.pem()? })))
}

fn build_custom(_: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::exact("buildCustomCert", a, 2)?;
    let text = |i: usize, what: &str| match encoding::base64_decode(a.str(i)?) {
        Ok(data) => Ok(String::from_utf8_lossy(&data).into_owned()),
        Err(_) => err(format!("unable to decode base64 {what}")),
    };
    let (cert, key) = (text(0, "certificate")?, text(1, "private key")?);
    let Ok(block) = pem::parse(&cert) else {
        return err("unable to decode certificate");
    };
    if subject_and_id(block.contents()).is_none() {
        return err("error parsing certificate: decodedCert.Bytes: x509: malformed certificate");
    }
    Key::parse(&key).map_err(|e| FuncError(format!("error parsing private key: {e}")))?;
    Ok(Val::Object(Rc::new(Certificate { cert, key })))
}
