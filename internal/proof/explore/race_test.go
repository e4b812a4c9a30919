//go:build race

package explore

const pace = 1
