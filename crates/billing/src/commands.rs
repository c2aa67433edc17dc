//! What the program does beside serving: each command as a function from what it was given to what it prints.

use crate::catalog::Catalog;
use crate::serve::read_catalog;
use std::path::Path;

/// Checks a catalog and says what is in it. Nothing is started, and nothing beside the file is read.
///
/// # Errors
/// Every complaint, a line each.
pub fn check(file: &Path) -> Result<String, String> {
    let catalog = read_catalog(file).map_err(|no| format!("{} has to be mended:\n{no}", file.display()))?;
    Ok(format!("{} is in order: {}", file.display(), summary(&catalog)))
}

fn summary(catalog: &Catalog) -> String {
    let count = |n: usize, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
    let windows = catalog.tiers.values().map(|tier| tier.windows.len()).sum();
    let parts = [
        count(catalog.tiers.len(), "tier", "tiers"),
        count(catalog.packages.len(), "package", "packages"),
        count(catalog.endpoints.len(), "endpoint", "endpoints"),
        count(windows, "window", "windows"),
    ];
    let default = catalog.default_tier.as_ref();
    let default = default.map_or("accounts without a subscription are refused".into(), |tier| {
        format!("accounts without a subscription are on {tier}")
    });
    format!("{} in {}, {}; {default}", catalog.product, catalog.currency, parts.join(", "))
}
