//! Bit-fields, and other names for the same bytes, as pairs of methods.

/// Gives a structure a getter and a setter for each bit-field (or unsigned view) of one of its storage fields.
///
/// `Type { storage: Word } { get / set: lowest bit, number of bits => Value; }`: bits are counted from the least
/// significant one, as C compilers for Windows allocate them.
macro_rules! bits {
    ($type:ident { $storage:ident } as $word:ty {
        $($(#[$doc:meta])* $get:ident / $set:ident: $low:literal, $width:literal => $value:ty;)+
    }) => {
        #[allow(clippy::cast_possible_truncation, clippy::cast_lossless, clippy::unnecessary_cast)]
        impl $type {
            $(
                $(#[$doc])*
                #[must_use]
                pub const fn $get(&self) -> $value {
                    ((self.$storage >> $low) & (<$word>::MAX >> (<$word>::BITS - $width))) as $value
                }

                #[doc = concat!("Sets `", stringify!($get), "`; bits of `value` that do not fit are dropped.")]
                pub const fn $set(&mut self, value: $value) {
                    let mask = (<$word>::MAX >> (<$word>::BITS - $width)) << $low;
                    self.$storage = (self.$storage & !mask) | (((value as $word) << $low) & mask);
                }
            )+
        }
    };
}
pub(crate) use bits;
