//! The mistake of a beginner, or a cover: an ordinary `std` guest. It exports what a remedy exports, and its standard library
//! brings WASI along. It must be refused at load, with the import's name and what to use in its place.

mod bindings {
    #![expect(unsafe_code, clippy::too_many_arguments, reason = "generated from the WIT")]
    wit_bindgen::generate!({ path: "../../../wit", world: "remedy" });

    struct Remedy;

    impl Guest for Remedy {
        fn remediate(_: Input) -> Result<Report, Denial> {
            let secrets = std::fs::read_to_string("/etc/shadow");
            println!("{} variables", std::env::vars().count());
            Ok(Report::Treated(format!("leak: {secrets:?}")))
        }

        fn check(_: Input) -> Result<Opinion, Denial> {
            Ok(Opinion::Satisfied)
        }
    }

    export!(Remedy);
}
