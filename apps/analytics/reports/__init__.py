"""Reports by e-mail: when (`periods`), what (`figures`), how it looks (`picture`, `letter`), and that it arrives
(`delivery`). `services` changes the schedules."""
