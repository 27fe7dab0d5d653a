//! The reference matcher: braces are written out, then parts are compared one by one, by plain backtracking. Slow and short.

/// A glob with its braces written out.
#[derive(Debug)]
pub(crate) struct Reference(Vec<Vec<Part>>);

/// What stands between two slashes.
#[derive(Debug, Clone, PartialEq)]
enum Part {
    /// `**`: any number of parts, none included.
    Any,
    /// Anything else.
    One(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Byte(u8),
    /// `?`
    Single,
    /// `*`
    Many,
    /// `[a-z]`, `[!a-z]`
    Class {
        negated: bool,
        ranges: Vec<(u8, u8)>,
    },
    /// Between parts.
    Slash,
    /// `**`
    Recursive,
    Open,
    Comma,
    Close,
}

impl Reference {
    /// Reads a glob; `None` where it is none of ours.
    pub(crate) fn parse(glob: &str) -> Option<Self> {
        let climbs = glob.split('/').any(|part| matches!(part, "" | "." | ".."));
        let fits = (1..=256).contains(&glob.len()) && !glob.chars().any(char::is_control) && !climbs;
        let tokens = fits.then(|| tokens(glob))??;
        let whole = expand(&tokens)?;
        whole.into_iter().map(|tokens| parts(&tokens)).collect::<Option<_>>().map(Self)
    }

    /// The path matches.
    pub(crate) fn admits(&self, path: &[u8]) -> bool {
        let path: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        self.0.iter().any(|parts| parts_match(parts, &path))
    }
}

fn tokens(glob: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = glob;
    while let Some(c) = rest.chars().next() {
        let after = rest.get(c.len_utf8()..)?;
        let (token, left) = match c {
            '\\' => {
                let escaped = after.chars().next().filter(|c| *c != '/')?;
                bytes(escaped, &mut tokens);
                (None, after.get(escaped.len_utf8()..)?)
            }
            '[' => class(after).map(|(class, left)| (Some(class), left))?,
            '*' => match after.strip_prefix('*') {
                Some(left) => (Some(Token::Recursive), left),
                None => (Some(Token::Many), after),
            },
            '?' => (Some(Token::Single), after),
            '/' => (Some(Token::Slash), after),
            '{' => (Some(Token::Open), after),
            ',' => (Some(Token::Comma), after),
            '}' => (Some(Token::Close), after),
            other => {
                bytes(other, &mut tokens);
                (None, after)
            }
        };
        tokens.extend(token);
        rest = left;
    }
    // `**` is a part of its own.
    let alone = |at: usize| {
        let before = at.checked_sub(1).and_then(|at| tokens.get(at));
        [before, tokens.get(at + 1)].into_iter().flatten().all(|token| *token == Token::Slash)
    };
    let whole = tokens.iter().enumerate().all(|(at, token)| *token != Token::Recursive || alone(at));
    whole.then_some(tokens)
}

fn bytes(c: char, tokens: &mut Vec<Token>) {
    tokens.extend(c.encode_utf8(&mut [0; 4]).bytes().map(Token::Byte));
}

/// A class, given what follows its `[`: ASCII, no slash, and nothing that other tools read in another way.
fn class(text: &str) -> Option<(Token, &str)> {
    let plain = text.strip_prefix(['!', '^']);
    let (negated, text) = (plain.is_some(), plain.unwrap_or(text));
    let end = text.find(']').filter(|end| *end > 0)?;
    let (items, left) = (text.get(..end)?, text.get(end + 1..)?);
    let strange = |b: u8| !b.is_ascii() || b"/\\[".contains(&b);
    if items.bytes().any(strange) || (negated && items.starts_with('-')) {
        return None;
    }
    let mut ranges = Vec::new();
    let mut items = items.as_bytes();
    loop {
        items = match items {
            [] => return Some((Token::Class { negated, ranges }, left)),
            [from, b'-', to, rest @ ..] => {
                let goes_on = matches!(rest, [b'-', _, ..]);
                if from > to || (*from..=*to).contains(&b'/') || goes_on {
                    return None;
                }
                ranges.push((*from, *to));
                rest
            }
            [one, rest @ ..] => {
                ranges.push((*one, *one));
                rest
            }
        };
    }
}

/// Every way to write out the braces; they hold no slash and no braces.
fn expand(tokens: &[Token]) -> Option<Vec<Vec<Token>>> {
    let mut done: Vec<Vec<Token>> = vec![Vec::new()];
    let mut rest = tokens;
    while let Some((token, left)) = rest.split_first() {
        rest = left;
        let choices: Vec<Vec<Token>> = match token {
            Token::Close => return None,
            Token::Open => {
                let end = rest.iter().position(|token| *token == Token::Close)?;
                let inside = rest.get(..end)?;
                if inside.contains(&Token::Open) || inside.contains(&Token::Slash) {
                    return None;
                }
                rest = rest.get(end + 1..)?;
                inside.split(|token| *token == Token::Comma).map(<[Token]>::to_vec).collect()
            }
            Token::Comma => vec![vec![Token::Byte(b',')]],
            Token::Byte(_) | Token::Single | Token::Many | Token::Class { .. } | Token::Slash | Token::Recursive => {
                vec![vec![token.clone()]]
            }
        };
        let longer = |way: &Vec<Token>| choices.iter().map(move |choice| [way.as_slice(), choice].concat()).collect();
        done = done.iter().flat_map(|way| -> Vec<Vec<Token>> { longer(way) }).collect();
    }
    Some(done)
}

fn parts(tokens: &[Token]) -> Option<Vec<Part>> {
    let part = |tokens: &[Token]| match tokens {
        [Token::Recursive] => Part::Any,
        tokens => Part::One(tokens.to_vec()),
    };
    Some(tokens.split(|token| *token == Token::Slash).map(part).collect())
}

fn parts_match(parts: &[Part], path: &[&[u8]]) -> bool {
    match (parts, path) {
        ([], []) => true,
        // At the end it stands for what lies below, not for the directory itself.
        ([Part::Any], path) => !path.is_empty(),
        ([Part::Any, rest @ ..], path) => {
            (0..=path.len()).any(|skip| path.get(skip..).is_some_and(|path| parts_match(rest, path)))
        }
        ([Part::One(tokens), rest @ ..], [name, path @ ..]) => one_matches(tokens, name) && parts_match(rest, path),
        ([Part::One(_), ..], []) | ([], [_, ..]) => false,
    }
}

fn one_matches(tokens: &[Token], name: &[u8]) -> bool {
    match (tokens, name) {
        ([], name) => name.is_empty(),
        ([Token::Many | Token::Recursive, rest @ ..], name) => {
            (0..=name.len()).any(|skip| name.get(skip..).is_some_and(|name| one_matches(rest, name)))
        }
        ([token, rest @ ..], [byte, name @ ..]) => admits(token, *byte) && one_matches(rest, name),
        ([_, ..], []) => false,
    }
}

fn admits(token: &Token, byte: u8) -> bool {
    match token {
        Token::Byte(wanted) => byte == *wanted,
        Token::Single => true,
        Token::Class { negated, ranges } => ranges.iter().any(|(from, to)| (*from..=*to).contains(&byte)) != *negated,
        Token::Many | Token::Recursive | Token::Slash | Token::Open | Token::Comma | Token::Close => false,
    }
}
