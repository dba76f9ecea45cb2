//! The pure core of Sluice: data in, data out.
