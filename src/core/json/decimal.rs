//! Doubles as decimal digits, which both writers then lay out by rules of their own.
//!
//! Invariant: the digits are those of ECMAScript's `Number::toString` (ECMA-262, section
//! 6.1.6.1.20) and of Python's `float.__repr__`, which agree: the fewest that read back as the
//! same double; of those, the nearest to it; of two equally near, the even ones.

/// The magnitude of a finite double: a point behind the first digit, times ten to the `exponent`.
pub struct Decimal {
    /// One to seventeen, without zeros at the end; `0` for zero.
    digits: String,
    pub exponent: i32,
}

impl Decimal {
    pub fn of(double: f64) -> Self {
        let magnitude = double.abs();
        let shortest = Self::parse(&format!("{magnitude:e}"));
        // Where two are equally near, Rust takes the larger and not the even one: it writes
        // 1424953923781206.25 with a 3 at the end (RFC 8785, appendix B, has a 2). With a given
        // number of digits it does round to even. What is nearest need not read back as the same
        // double, beside a power of two, where the doubles below lie closer than those above.
        let fraction_digits = shortest.digits.len() - 1;
        let text = format!("{magnitude:.fraction_digits$e}");
        if text.parse() == Ok(magnitude) { Self::parse(&text) } else { shortest }
    }

    /// Reads what `{:e}` writes: `1.25e-7`.
    fn parse(text: &str) -> Self {
        let (mantissa, exponent) = text.split_once('e').expect("`{:e}` writes an exponent");
        Self {
            digits: mantissa.replace('.', ""),
            exponent: exponent.parse().expect("`{:e}` writes it as an integer"),
        }
    }

    /// Without an exponent: `120`, `1.25`, `0.00125`.
    pub fn positional(&self) -> String {
        let digits = &self.digits;
        let Ok(last_whole) = usize::try_from(self.exponent) else {
            let zeros = self.exponent.unsigned_abs() as usize - 1;
            return format!("0.{}{digits}", "0".repeat(zeros));
        };
        match digits.split_at_checked(last_whole + 1) {
            Some((whole, "")) => whole.to_owned(),
            Some((whole, fraction)) => format!("{whole}.{fraction}"),
            None => format!("{digits:0<width$}", width = last_whole + 1),
        }
    }

    /// What stands before the exponent where there is one: `1`, `1.25`.
    pub fn mantissa(&self) -> String {
        Self { digits: self.digits.clone(), exponent: 0 }.positional()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_equally_near_the_even_one_is_taken() {
        let halfway = f64::from_bits(0x4314_3ff3_c1cb_0959);
        assert_eq!(format!("{halfway:.2}"), "1424953923781206.25");
        assert_eq!(Decimal::of(halfway).positional(), "1424953923781206.2");
    }

    #[test]
    fn every_power_of_two_reads_back() {
        let subnormal = (0..52).map(|shift| 1 << shift);
        let normal = (1_u64..2047).map(|exponent| exponent << 52);
        for bits in subnormal.chain(normal) {
            let double = f64::from_bits(bits);
            let decimal = Decimal::of(double);
            let text = format!("{}e{}", decimal.mantissa(), decimal.exponent);
            assert_eq!(text.parse(), Ok(double));
            assert_eq!(decimal.positional().parse(), Ok(double));
        }
    }

    #[test]
    fn the_point_is_where_the_exponent_says() {
        let cases = [
            (0.0, "0"),
            (1.0, "1"),
            (120.0, "120"),
            (1.25, "1.25"),
            (-12.5, "12.5"),
            (0.5, "0.5"),
            (0.00125, "0.00125"),
            (1e20, "100000000000000000000"),
        ];
        for (double, text) in cases {
            assert_eq!(Decimal::of(double).positional(), text);
        }
    }
}
