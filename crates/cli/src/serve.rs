//! `countersign serve`

use countersign_server::registry;
use countersign_server::run::{ServeOptions, StartError, run as serve};

use crate::args::ServeArgs;
use crate::failure::Failure;
use crate::place::data;

pub(crate) fn run(args: ServeArgs) -> Result<(), Failure> {
    let ServeArgs { place, http } = args;
    let data = data(place.data.as_deref())?;
    let options = ServeOptions { config: place.config, data, http };
    serve(&options, &registry::built_in()).map_err(|error| match error {
        StartError::Config(error) => error.into(),
        other => Failure::broken(other.to_string()),
    })
}
