"""The contract of StickyRoute: CRD models, snapshot, affinity report, reasons."""
