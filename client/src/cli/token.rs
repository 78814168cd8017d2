//! Where the admin token comes from: what was given outright, a file, or the store's data directory.

use std::path::Path;

use bookends::Token;
use common::config::Config;

use super::CliError;
use super::args::Globals;

/// The token's file in the data directory. It is only read here: to make it is the store's business.
const TOKEN_FILE: &str = "admin.token";

/// The token, if there is one. A file that was named must be readable; the store's own need not be.
pub(crate) fn find(globals: &Globals) -> Result<Option<Token>, CliError> {
    if let Some(path) = &globals.token_file {
        return read(path).map(Some).map_err(|e| CliError::file("can't read", path, e));
    }
    let given = globals.token.as_deref().filter(|text| !text.trim().is_empty());
    Ok(given.map(Token::new).or_else(|| of_store(globals)))
}

/// The token of the store whose configuration is at hand.
fn of_store(globals: &Globals) -> Option<Token> {
    let config = Config::load(&Config::path_from_env_or(globals.config.clone())).ok()?;
    read(&config.cluster.data_dir.join(TOKEN_FILE)).ok()
}

fn read(path: &Path) -> std::io::Result<Token> {
    std::fs::read_to_string(path).map(|text| Token::new(&text))
}
