// Package stack tests template.yaml and the pages about it: what the template becomes, and the
// functions in its environment, before an emulator of AWS. Most of its tests have the build tag full.
package stack
