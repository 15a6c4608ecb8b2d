//! `schema.graphql`, from which clients are generated, is the schema that is served.

#[test]
fn schema_file_is_the_served_schema() {
    let written = include_str!("../../schema.graphql");
    let served = guildhall_graphql::sdl();
    if let Some((number, (written, served))) =
        written.lines().zip(served.lines()).enumerate().find(|(_, (written, served))| written != served)
    {
        panic!(
            "line {} of schema.graphql is\n  {written}\nbut the schema says\n  {served}\nrun `just schema`",
            number + 1
        );
    }
    assert_eq!(written.lines().count(), served.lines().count(), "run `just schema`");
}
