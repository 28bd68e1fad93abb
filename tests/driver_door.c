/* A driver with the side door that CUPTI needs: the fake driver, which has none, plus this function.
 * Linked against the copy of the fake driver that the test has loaded. */
int cuGetExportTable(const void **table, const void *id) {
    (void)table, (void)id;
    return 500; /* not found: nobody here opens it */
}
