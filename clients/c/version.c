// SPDX-License-Identifier: Apache-2.0
/* The version that the libraries are made from, as text in the file: `strings LIBRARY | grep PRIVCMDD_VERSION`. */
__attribute__((used)) static const char version[] = "PRIVCMDD_VERSION=" PRIVCMDD_VERSION;
