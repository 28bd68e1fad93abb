//! A request is accepted once, so it exists once.

use stepscope::Request;

fn main() {
    let req = Request::empty();
    let _ = req.clone();
}
