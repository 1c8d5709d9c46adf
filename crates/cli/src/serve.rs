//! `countersign serve`

use countersign_checkers::kinds::Takes;
use countersign_server::run::{ServeOptions, StartError, run as serve};

use crate::args::ServeArgs;
use crate::failure::Failure;
use crate::place::data;

pub(crate) fn run(args: ServeArgs) -> Result<(), Failure> {
    let ServeArgs { place, http, auth } = args;
    let kinds = crate::kinds();
    if let Some(help) = auth.help(&kinds, &Takes::everything())? {
        print!("{help}");
        return Ok(());
    }
    if !auth.auth.is_empty() && place.config.is_some() {
        let message = "who checks logins is said by --config or by --auth: leave one out";
        return Err(Failure::usage(message));
    }
    kinds.named(&auth.auth, &Takes::everything())?;
    let data = data(place.data.as_deref())?;
    let options = ServeOptions { config: place.config, data, http, auth: auth.auth };
    serve(&options, &kinds).map_err(|error| match error {
        StartError::Config(error) => error.into(),
        other => Failure::broken(other.to_string()),
    })
}
