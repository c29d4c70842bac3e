//! Writes the Prometheus text format straight into a buffer.

/// The `Content-Type` of an answer to a scrape.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4";

/// Appends families and samples to an exposition.
pub(super) struct Text<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Text<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        Text { out }
    }

    /// Begins a family; all its samples come before the next.
    pub(super) fn family(&mut self, name: &str, kind: &str, help: &str) {
        for part in ["# HELP ", name, " ", help, "\n# TYPE ", name, " ", kind, "\n"] {
            self.out.extend_from_slice(part.as_bytes());
        }
    }

    /// A sample with a whole number.
    pub(super) fn whole(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        self.begin(name, "", labels);
        self.number(value);
    }

    /// A sample with a fraction.
    pub(super) fn real(&mut self, name: &str, suffix: &str, labels: &[(&str, &str)], value: f64) {
        self.begin(name, suffix, labels);
        self.out.extend_from_slice(value.to_string().as_bytes());
        self.out.push(b'\n');
    }

    /// A sample above all numbers.
    pub(super) fn unlimited(&mut self, name: &str) {
        self.begin(name, "", &[]);
        self.out.extend_from_slice(b"+Inf\n");
    }

    /// The samples of one histogram: `counts` has one bucket more than `bounds`, for what is above them all.
    pub(super) fn histogram(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        bounds: impl ExactSizeIterator<Item = f64>,
        counts: &[u64],
        sum: f64,
    ) {
        let mut seen = 0u64;
        for (at, bound) in bounds.enumerate() {
            seen = seen.saturating_add(counts.get(at).copied().unwrap_or(0));
            self.bucket(name, labels, &bound.to_string(), seen);
        }
        let all = counts.iter().fold(0u64, |all, count| all.saturating_add(*count));
        self.bucket(name, labels, "+Inf", all);
        self.real(name, "_sum", labels, sum);
        self.begin(name, "_count", labels);
        self.number(all);
    }

    fn bucket(&mut self, name: &str, labels: &[(&str, &str)], le: &str, count: u64) {
        self.begin(name, "_bucket", labels);
        // The blank and, where there were labels, the brace before it.
        self.out.truncate(self.out.len() - if labels.is_empty() { 1 } else { 2 });
        self.out.extend_from_slice(if labels.is_empty() { b"{le=\"" } else { b",le=\"" });
        self.out.extend_from_slice(le.as_bytes());
        self.out.extend_from_slice(b"\"} ");
        self.number(count);
    }

    fn number(&mut self, value: u64) {
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        self.out.push(b'\n');
    }

    fn begin(&mut self, name: &str, suffix: &str, labels: &[(&str, &str)]) {
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(suffix.as_bytes());
        for (at, (label, value)) in labels.iter().enumerate() {
            self.out.push(if at == 0 { b'{' } else { b',' });
            self.out.extend_from_slice(label.as_bytes());
            self.out.extend_from_slice(b"=\"");
            escape(value, self.out);
            self.out.push(b'"');
        }
        self.out.extend_from_slice(if labels.is_empty() { b" " } else { b"} " });
    }
}

/// Appends a label value; a backslash, a quote and a line feed are escaped.
pub(super) fn escape(value: &str, out: &mut Vec<u8>) {
    if is_plain(value) {
        out.extend_from_slice(value.as_bytes());
        return;
    }
    for byte in value.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'"' => out.extend_from_slice(b"\\\""),
            b'\n' => out.extend_from_slice(b"\\n"),
            _ => out.push(byte),
        }
    }
}

/// True if a label value needs no escape.
pub(super) fn is_plain(value: &str) -> bool {
    !value.bytes().any(|byte| matches!(byte, b'\\' | b'"' | b'\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_escaped() {
        let mut out = Vec::new();
        Text::new(&mut out).whole("a", &[("b", "x\"y\\z\nw"), ("c", "ä")], 7);
        assert_eq!(String::from_utf8(out).unwrap(), "a{b=\"x\\\"y\\\\z\\nw\",c=\"ä\"} 7\n");
    }

    #[test]
    fn buckets_add_up_and_the_last_is_the_count() {
        let mut out = Vec::new();
        Text::new(&mut out).histogram("h", &[], [0.00000025, 0.1].into_iter(), &[1, 2, 3], 0.5);
        let expected =
            "h_bucket{le=\"0.00000025\"} 1\nh_bucket{le=\"0.1\"} 3\nh_bucket{le=\"+Inf\"} 6\nh_sum 0.5\nh_count 6\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
