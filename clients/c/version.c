// SPDX-License-Identifier: Apache-2.0
/* The version that the libraries are made from, for those who read the file: `strings LIBRARY | grep PRIVCMDD_VERSION`. */
__attribute__((used)) static const char version[] = "PRIVCMDD_VERSION=" PRIVCMDD_VERSION;
