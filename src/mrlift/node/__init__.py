"""DICOM node: receives series, upscales them, sends the derived series on.

::

    receiver  C-ECHO and C-STORE SCP, one thread an association
       |      an instance is acknowledged when its file and its row are on disk
    queue     SQLite and a folder; what survives a kill at any moment
       |
    worker    one thread; one series at a time, after its quiet time
       |      a result is on disk with its final UIDs before it is first sent
    sender    C-STORE SCU, one thread a destination; tries until the destination has all
"""
