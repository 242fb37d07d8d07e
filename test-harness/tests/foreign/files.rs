//! Files and devices by handles: `tests/drivers/files.c`.

use driver_build::DriverModel;

use crate::bed;

#[test]
fn they_do_what_their_documentation_says() {
    let image = bed::build("files", DriverModel::Wdm);
    for behaviour in bed::behaviours("files") {
        bed::succeeds(&image, &behaviour);
    }
}
