/* http: requests that other threads answer while connections and the server come and go. */
#ifndef BANTAM_TEST_THREADS_HTTP_H
#define BANTAM_TEST_THREADS_HTTP_H

/* Runs rounds servers. Returns the number of answers that clients read; 0: something went wrong. */
unsigned long http_threads(unsigned rounds);

#endif
