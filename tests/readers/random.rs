//! Any change of any record, by a seed.

use openexec::serve::front::legacy;
use serde_json::{Value, json};

use crate::forge::{Files, SECTOR, clawshield, demo, laid_out};

/// splitmix64.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// What was changed, and the store of it.
pub fn changed(seed: u64) -> (String, Files) {
    let mut random = Random(seed);
    let mut model = if random.below(2) == 0 { demo() } else { clawshield() };
    let what;
    let is_sealed_first = random.below(3) == 0;
    if is_sealed_first {
        model.seal();
    }
    let batches: Vec<usize> =
        (1..model.batches.len()).filter(|n| !model.batches[*n].is_empty()).collect();
    let batch = batches[random.below(batches.len())];
    let n = random.below(model.batches[batch].len());
    match random.below(10) {
        // A record moved, repeated or left out.
        0 => {
            let record = model.batches[batch].remove(n);
            let to = batches[random.below(batches.len())];
            what = format!("{} moved to batch {to}", record.label);
            model.batches[to].push(record);
        }
        1 => {
            let record = model.batches[batch][n].clone();
            let to = batches[random.below(batches.len())];
            what = format!("{} again in batch {to}", record.label);
            model.batches[to].push(record);
        }
        2 => what = format!("{} left out", model.batches[batch].remove(n).label),
        // A byte of its line.
        3 => {
            model.seal();
            let record = &mut model.batches[batch][n];
            let mut line = openexec::core::json::canonical::to_string(&record.value).into_bytes();
            let at = random.below(line.len());
            let others = b"\"\\{}[],:09aZ-. \x7f\t";
            let instead = others[random.below(others.len())];
            let was = std::mem::replace(&mut line[at], instead);
            what = format!("{}: byte {at} {was} is {instead}", record.label);
            record.text = String::from_utf8(line).ok();
        }
        // A value somewhere in it.
        _ => {
            let record = &mut model.batches[batch][n];
            let before = record.value.clone();
            change(&mut record.value, &mut random, 0);
            what = format!("{}: {before} is {}", record.label, record.value);
        }
    }
    if !is_sealed_first {
        model.seal();
    }
    (what, laid_out(&model.frame()))
}

/// A genuine store of which bytes are others, as a power cut, rot or somebody's hand leaves them: what was done, and the
/// files.
pub fn damaged(seed: u64) -> (String, Files) {
    let mut random = Random(seed);
    let mut model = if random.below(2) == 0 { demo() } else { clawshield() };
    model.seal();
    let (mut files, mut what) = (laid_out(&model.frame()), String::new());
    for _ in 0..=random.below(2) {
        let names: Vec<String> = files.keys().cloned().collect();
        let name = &names[random.below(names.len())];
        let bytes = files.get_mut(name).expect("there");
        let text = bytes.iter().rposition(|byte| !matches!(byte, b'\n' | 0)).map_or(0, |at| at + 1);
        // Mostly where the text ends: there it is judged whether a power cut leaves it so.
        let (sectors, last) = ((text / SECTOR + 2).min(bytes.len() / SECTOR), random.below(3) > 0);
        if sectors == 0 {
            break;
        }
        let sector = |random: &mut Random| {
            let back = random.below(if last { 4.min(sectors) } else { sectors });
            (sectors - 1 - back) * SECTOR
        };
        let (at, other) = (sector(&mut random), sector(&mut random));
        let byte = text.saturating_sub(random.below(2 * SECTOR));
        let blank = [b'\n', 0][random.below(2)];
        let kind = random.below(11);
        what += &format!("{kind} in {name} at {at}, {other}, {byte}; ");
        match kind {
            0 => bytes[at..at + SECTOR].fill(blank),
            1 => bytes[at..].fill(blank),
            2 => bytes[byte..].fill(blank),
            3 => bytes.copy_within(other..other + SECTOR, at),
            4 => {
                let behind = (text + 1).next_multiple_of(SECTOR).min(bytes.len() - SECTOR);
                bytes.copy_within(at..at + SECTOR, behind);
            }
            5 => bytes[byte] = [b'x', b'\n', 0, 0xff, b'{'][random.below(5)],
            6 => bytes[text..].fill(blank),
            7 => {
                let kept = bytes[at..at + SECTOR].to_vec();
                bytes.copy_within(other..other + SECTOR, at);
                bytes[other..other + SECTOR].copy_from_slice(&kept);
            }
            8 => bytes.truncate(at),
            9 => bytes[at..at + SECTOR].fill(b'x'),
            _ => drop(files.remove(name)),
        }
        if files.is_empty() {
            break;
        }
    }
    (what, files)
}

fn change(value: &mut Value, random: &mut Random, depth: u32) {
    match value {
        Value::Object(object) if depth < 4 && random.below(8) > 0 && !object.is_empty() => {
            let names: Vec<String> = object.keys().cloned().collect();
            let name = names[random.below(names.len())].clone();
            match random.below(12) {
                0 => drop(object.remove(&name)),
                1 => drop(object.insert(format!("{name}x"), json!(1))),
                _ => change(object.get_mut(&name).expect("there"), random, depth + 1),
            }
        }
        Value::Array(items) if !items.is_empty() && random.below(8) > 0 => {
            let n = random.below(items.len());
            match random.below(6) {
                0 => drop(items.remove(n)),
                1 => items.push(items[n].clone()),
                _ => change(&mut items[n], random, depth + 1),
            }
        }
        Value::String(text) if random.below(8) > 0 => {
            let characters: Vec<char> = text.chars().collect();
            let n = random.below(characters.len());
            let instead = ['0', '1', '9', 'a', 'Z', '-', '\u{e9}', '\u{7f}', '\n', '"'];
            let instead = instead[random.below(10)];
            *text = match random.below(4) {
                0 => characters.iter().skip(1).collect(),
                1 => format!("{text}{instead}"),
                _ => characters
                    .iter()
                    .enumerate()
                    .map(|(at, old)| if at == n { instead } else { *old })
                    .collect(),
            };
        }
        Value::Number(number) if random.below(4) > 0 => {
            let old = number.as_f64().unwrap_or(0.0);
            let others = [old + 1.0, -old, old / 3.0, old * 1e20, 1e-7, 123_456.75];
            *value = json!(others[random.below(6)]);
        }
        other => {
            let others = [
                Value::Null,
                json!(true),
                json!(0),
                json!(1),
                json!("x"),
                json!([]),
                json!({}),
                json!([{"a": 1e-6, "\u{e9}": -0.5, "\u{1f600}": 1e15, "\u{ffff}": 0.1}]),
            ];
            *other = others[random.below(8)].clone();
        }
    }
}

/// The legacy text of a claim.
pub fn legacy_of(claim: &Value) -> String {
    let said = json!({"action": claim["action"], "payload": claim["payload"]});
    legacy::to_string(&said, 1 << 20).expect("short")
}

/// The same bytes in base64 with bits set that the padding leaves over.
pub fn other_spelling(text: &str) -> String {
    let digits = text.strip_suffix("==").expect("two of padding");
    let (rest, last) = digits.split_at(digits.len() - 1);
    let other = match last {
        "A" => "B",
        "Q" => "R",
        "g" => "h",
        _ => "x",
    };
    format!("{rest}{other}==")
}
