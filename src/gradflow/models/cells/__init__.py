"""Recurrent cells, one small file each."""
