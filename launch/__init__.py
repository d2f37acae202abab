"""absl scripts: flags to config to one call into the library."""
