//! Which characters a person can see.

/// Neither a control (Cc), a format character (Cf), a blank other than the space (Zs, Zl, Zp), a
/// character that renderers leave out (Default_Ignorable_Code_Point, Unicode 16), nor one that has
/// no agreed look (private use, noncharacters).
pub fn is_visible(char: char) -> bool {
    if char == ' ' {
        return true;
    }
    !(char.is_control()
        || char.is_whitespace()
        || matches!(u32::from(char),
            0xad | 0x34f | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f | 0x890..=0x891 | 0x8e2
            | 0x115f..=0x1160 | 0x17b4..=0x17b5 | 0x180b..=0x180f | 0x200b..=0x200f
            | 0x202a..=0x202e | 0x2060..=0x206f | 0x2800 | 0x3164 | 0xe000..=0xf8ff
            | 0xfdd0..=0xfdef | 0xfe00..=0xfe0f | 0xfeff | 0xffa0 | 0xfff0..=0xfffb | 0x110bd
            | 0x110cd | 0x13430..=0x1343f | 0x1bca0..=0x1bca3 | 0x1d159 | 0x1d173..=0x1d17a
            | 0xe0000..)
        || u32::from(char) & 0xfffe == 0xfffe)
}
