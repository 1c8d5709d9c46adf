//! Distinguished names in one line, as OpenSSL writes them (`X509_NAME_oneline`): `/C=ES/O=Test/CN=Alice`.

use x509_parser::asn1_rs::Tag;
use x509_parser::x509::X509Name;

/// OpenSSL's short names of the attributes that names have; of others it writes the number.
const SHORT: &[(&str, &str)] = &[
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.13", "description"),
    ("2.5.4.15", "businessCategory"),
    ("2.5.4.16", "postalAddress"),
    ("2.5.4.17", "postalCode"),
    ("2.5.4.20", "telephoneNumber"),
    ("2.5.4.41", "name"),
    ("2.5.4.42", "GN"),
    ("2.5.4.43", "initials"),
    ("2.5.4.44", "generationQualifier"),
    ("2.5.4.45", "x500UniqueIdentifier"),
    ("2.5.4.46", "dnQualifier"),
    ("2.5.4.65", "pseudonym"),
    ("2.5.4.97", "organizationIdentifier"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
    ("1.2.840.113549.1.9.2", "unstructuredName"),
];

/// A name in one line: bytes outside of printable ASCII are `\xC3`, in capitals. Names that could be read in two ways
/// are refused, for then one certificate could be taken for another's: OpenSSL escapes no slash and no backslash.
///
/// # Errors
///
/// Why there is no such line.
pub fn oneline(name: &X509Name<'_>) -> Result<String, &'static str> {
    let mut line = String::new();
    for part in name.iter() {
        let mut attributes = part.iter();
        let (Some(attribute), None) = (attributes.next(), attributes.next()) else {
            return Err("a part of the name has several values");
        };
        let number = attribute.attr_type().to_id_string();
        let short = SHORT.iter().find(|(known, _)| *known == number);
        let of_bytes = [
            Tag::Utf8String,
            Tag::PrintableString,
            Tag::Ia5String,
            Tag::T61String,
            Tag::NumericString,
        ];
        if !of_bytes.contains(&attribute.attr_value().tag()) {
            return Err("a part of the name is of a type that is not known");
        }
        let value = attribute.as_slice();
        let slash = value.iter().position(|byte| *byte == b'/');
        if value.contains(&b'\\') || value.contains(&b'|') {
            return Err("the name has a backslash or a bar");
        }
        if slash.is_some_and(|slash| value[slash..].contains(&b'=')) {
            return Err("the name has a slash and looks like another");
        }
        line.push('/');
        line.push_str(short.map_or(number.as_str(), |(_, short)| short));
        line.push('=');
        for byte in value {
            match byte {
                b' '..=b'~' => line.push(char::from(*byte)),
                _ => line.push_str(&format!("\\x{byte:02X}")),
            }
        }
    }
    match line.is_empty() {
        true => Err("the certificate has no name"),
        false => Ok(line),
    }
}

/// The line without blanks, as OpenNebula stores it: each is `\20`. What else is white has been escaped before.
pub fn escaped(line: &str) -> String {
    line.replace(' ', "\\20")
}
