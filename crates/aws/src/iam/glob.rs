//! Patterns with `*` and `?`, and texts with holes.

/// Stands in a text for a part that is not known before a configuration is applied. Not a character of any real text.
pub const HOLE: char = '\u{fdd0}';

/// Yes, no, or it depends on what is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Truth {
    /// Surely not.
    No,
    /// It depends.
    Maybe,
    /// Surely.
    Yes,
}

impl Truth {
    /// Both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        self.min(other)
    }
    /// One of both.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        self.max(other)
    }
}

impl std::ops::Not for Truth {
    type Output = Self;
    fn not(self) -> Self {
        match self {
            Self::No => Self::Yes,
            Self::Maybe => Self::Maybe,
            Self::Yes => Self::No,
        }
    }
}

impl From<bool> for Truth {
    fn from(b: bool) -> Self {
        if b { Self::Yes } else { Self::No }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Token {
    One(char),
    AnyOne,
    AnyMany,
}

/// Whether a text matches a pattern. With `wild`, `*` and `?` of the pattern stand for other characters. Holes in
/// either make a match at most a maybe.
#[must_use]
pub fn glob(pattern: &str, text: &str, wild: bool) -> Truth {
    let token = |c: char| match c {
        HOLE => Token::AnyMany,
        '*' if wild => Token::AnyMany,
        '?' if wild => Token::AnyOne,
        c => Token::One(c),
    };
    let tokens: Vec<Token> = pattern.chars().map(token).collect();
    if !pattern.contains(HOLE) && !text.contains(HOLE) {
        let text: Vec<char> = text.chars().collect();
        return matches(&tokens, &text).into();
    }
    if pattern == "*" && wild {
        return Truth::Yes;
    }
    let text: Vec<Token> = text.chars().map(|c| if c == HOLE { Token::AnyMany } else { Token::One(c) }).collect();
    if overlap(&tokens, &text) { Truth::Maybe } else { Truth::No }
}

/// Whether a pattern matches a text, in time of their product at most.
fn matches(pattern: &[Token], text: &[char]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(Token::AnyMany) => {
                back = Some((p, t));
                p += 1;
            }
            Some(Token::AnyOne) => {
                p += 1;
                t += 1;
            }
            Some(Token::One(c)) if *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match &mut back {
                Some((star, from)) => {
                    *from += 1;
                    p = *star + 1;
                    t = *from;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == Token::AnyMany)
}

/// Whether some text matches both patterns.
fn overlap(a: &[Token], b: &[Token]) -> bool {
    let mut row = vec![false; b.len() + 1];
    let mut next = vec![false; b.len() + 1];
    // From the ends: row[j] says whether a[i..] and b[j..] overlap.
    for i in (0..=a.len()).rev() {
        for j in (0..=b.len()).rev() {
            let (x, y) = (a.get(i), b.get(j));
            let after_a = |j: usize, row: &[bool]| row[j];
            next[j] = match (x, y) {
                (None, None) => true,
                (Some(Token::AnyMany), None) => after_a(j, &row),
                (Some(Token::AnyMany), Some(_)) => after_a(j, &row) || next[j + 1],
                (None, Some(Token::AnyMany)) => next[j + 1],
                (Some(_), Some(Token::AnyMany)) => next[j + 1] || after_a(j, &row),
                (Some(Token::One(c)), Some(Token::One(d))) => c == d && row[j + 1],
                (Some(_), Some(_)) => row[j + 1],
                (None, Some(_)) | (Some(_), None) => false,
            };
        }
        std::mem::swap(&mut row, &mut next);
    }
    row[0]
}
