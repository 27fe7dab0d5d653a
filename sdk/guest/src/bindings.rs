//! What wit-bindgen makes of `wit/`. Only the rest of the SDK and `remedy!` use it.
#![expect(clippy::too_many_arguments, reason = "generated")]

wit_bindgen::generate!({
    path: "../../wit",
    world: "remedy",
    pub_export_macro: true,
    default_bindings_module: "theriac_sdk::bindings",
    export_macro_name: "export_remedy",
    additional_derives: [PartialEq],
    additional_derives_ignore: ["page"],
});
