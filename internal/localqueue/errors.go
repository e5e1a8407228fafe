package localqueue

import "fmt"

// refusal is an answer of SQS that is an error.
type refusal struct {
	code    string // of the JSON protocol
	query   string // of the query protocol, which clients show; empty: code
	message string
}

func (e *refusal) Error() string { return e.code + ": " + e.message }

// queryCode is the name under which clients know the refusal.
func (e *refusal) queryCode() string {
	if e.query != "" {
		return e.query
	}
	return e.code
}

func invalid(format string, args ...any) error {
	return &refusal{code: "InvalidParameterValue", message: fmt.Sprintf(format, args...)}
}

func missing(name string) error {
	return &refusal{code: "MissingParameter", message: "The request must contain the parameter " + name + "."}
}

// outOfRange is what SQS says of a number.
func outOfRange(name string, value, least, most int) error {
	return invalid("Value %d for parameter %s is invalid. Reason: Must be between %d and %d, if provided.", value, name, least, most)
}

// withQuery is a refusal that has another name in the query protocol.
func withQuery(code, query, message string) error {
	return &refusal{code: code, query: "AWS.SimpleQueueService." + query, message: message}
}

var (
	errNoQueue      = withQuery("QueueDoesNotExist", "NonExistentQueue", "The specified queue does not exist.")
	errEmptyBatch   = withQuery("EmptyBatchRequest", "EmptyBatchRequest", "There should be at least one entry in the request.")
	errNotDistinct  = withQuery("BatchEntryIdsNotDistinct", "BatchEntryIdsNotDistinct", "Two or more batch entries in the request have the same Id.")
	errEntryID      = withQuery("InvalidBatchEntryId", "InvalidBatchEntryId", "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 letters long.")
	errBatchTooLong = withQuery("BatchRequestTooLong", "BatchRequestTooLong", fmt.Sprintf("Batch requests cannot be longer than %d bytes.", maxBytes))
	errNotInFlight  = withQuery("MessageNotInflight", "MessageNotInflight", "The message referred to is not in flight.")
	errHandle       = &refusal{code: "ReceiptHandleIsInvalid", message: "The input receipt handle is invalid."}
	errContents     = &refusal{code: "InvalidMessageContents", message: "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF"}
	errFull         = &refusal{code: "RequestThrottled", message: "The local queue holds as much as it may. Try again when something was taken."}
)

func tooManyEntries(n int) error {
	return withQuery("TooManyEntriesInBatchRequest", "TooManyEntriesInBatchRequest", fmt.Sprintf("Maximum number of entries per request are %d. You have sent %d.", batchEntries, n))
}
