// Package panics keeps a panic inside the work that it happened in. A goroutine that panics ends the whole process, with all
// that it was receiving; so whatever computes in a goroutine of its own defers [Catch].
package panics

import (
	"fmt"
	"runtime"
)

// An Error is a panic: a defect of this program that an input has brought to light.
type Error struct {
	Value any
	Stack string
}

func (e *Error) Error() string { return fmt.Sprintf("internal error: %v", e.Value) }

// Catch turns a panic of the function that defers it into an *Error at err. What the runtime ends the process for, as a stack
// that overflows or memory that cannot be had, it cannot catch.
func Catch(err *error) {
	if r := recover(); r != nil {
		stack := make([]byte, 16<<10)
		*err = &Error{r, string(stack[:runtime.Stack(stack, false)])}
	}
}
