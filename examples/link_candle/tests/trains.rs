//! The example runs to its end, where it checks that the loss fell and that recall beats a popularity list.

#[test]
fn loss_falls_and_recall_beats_most_popular() {
    let status = std::process::Command::new(env!("CARGO_BIN_EXE_link_candle")).status().unwrap();
    assert!(status.success(), "{status}");
}
