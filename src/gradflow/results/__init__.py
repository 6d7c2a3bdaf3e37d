"""What it showed: status, tables, pictures and the page, all read from records, without torch."""
