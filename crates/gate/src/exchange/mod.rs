//! One HTTP exchange from first header to last byte; call `handle`, then drain `poll_effect`, every time.
//!
//! Every kind of exchange has the same three methods: `handle(input, now, shelf) -> Flow`,
//! `poll_effect() -> Option<Effect>`, and `body_wanted() -> Option<usize>`, which says whether the whole request body
//! is wanted at its end, and how many bytes of it at most.
