"""Tools for those who maintain the project. They are not part of the wheel."""
