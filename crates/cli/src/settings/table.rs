//! Makes of one list of keys all that goes key by key: the struct of the settings, how each is
//! merged, and its row in `oriel config show`.

/// Takes lines of the form
///
/// ```text
/// section.key as field: Type = default, run takes Flags;
/// ```
///
/// `section.key` is the place in [`ConfigFile`](crate::config::file::ConfigFile), `field` the name in
/// `Settings`. `Type` is that of the file, or one made from it by `From`. The last part, a
/// [`RunTakes`](super::layers::RunTakes), is there where a run does not heed all that a service does.
macro_rules! settings {
    (@run) => { RunTakes::All };
    (@run $taken:ident) => { RunTakes::$taken };
    (
        ($paths:ident, $purpose:ident)
        $($section:ident.$key:ident as $field:ident: $type:ty
            = $default:expr $(, run takes $taken:ident)?;)+
    ) => {
        /// Every setting.
        #[derive(Clone, Debug)]
        pub(crate) struct Settings {
            $(pub(crate) $field: Setting<$type>,)+
        }

        impl Settings {
            fn merge(layers: &Layers, $paths: &Paths, $purpose: Purpose) -> Self {
                Self {
                    $($field: {
                        let heeded = layers.heeded($purpose, settings!(@run $($taken)?));
                        let path = concat!(stringify!($section), ".", stringify!($key));
                        pick(heeded, path, |file| file.$section.$key.as_ref())
                            .unwrap_or_else(|| Setting::of_default($default))
                    },)+
                }
            }

            /// All settings, in the order of the config file.
            pub(crate) fn rows(&self) -> Vec<Row> {
                vec![$(Row::of(
                    concat!(stringify!($section), ".", stringify!($key)),
                    &self.$field,
                ),)+]
            }
        }

        impl ConfigFile {
            /// Takes every value that `other` has.
            pub(crate) fn take_from(&mut self, other: Self) {
                $(if other.$section.$key.is_some() {
                    self.$section.$key = other.$section.$key;
                })+
            }
        }
    };
}

pub(super) use settings;
