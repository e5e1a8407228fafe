#!/usr/bin/env bash
# Plants one fault at a time in a copy of the tree and checks that the tests which guard the
# rule fail. A mutant that survives, or a fault that no longer applies, is an error.
# mutants.sh [WORDS]: only those whose names contain the words.
set -euo pipefail
cd "$(dirname "$0")/.."

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$copy"
cd "$copy"

caught=0 survived=0 only=${1:-}
# mutant NAME FILE PERL-SUBSTITUTION PACKAGE TESTS
mutant() {
  [[ $1 == *"$only"* ]] || return 0
  cp "$2" "$copy/original"
  perl -0pi -e "$3" "$2"
  if cmp -s "$2" "$copy/original"; then
    echo "stale     $1: the fault no longer applies to $2"
    survived=$((survived + 1))
  elif ! go vet "$4" >"$copy/vet" 2>&1; then
    echo "broken    $1: does not compile"; cat "$copy/vet"
    survived=$((survived + 1))
  elif go test -count=1 -run "$5" "$4" >"$copy/log" 2>&1; then
    echo "SURVIVED  $1 ($4 -run '$5')"
    survived=$((survived + 1))
  else
    echo "caught    $1"
    caught=$((caught + 1))
  fi
  cp "$copy/original" "$2"
}

mutant 'dead-letter write on the ended context' lib/retry/budget.go \
  's/(func \(b Budget\) storeContext\((?s:.*?))context\.WithoutCancel\(ctx\)/$1ctx/' \
  ./lib/retry 'TestNoScheduleBreaksThePromises'
mutant 'replay: settled on the ended context' lib/retry/budget.go \
  's/(func \(b Budget\) SettleContext\((?s:.*?))context\.WithoutCancel\(ctx\)/$1ctx/' \
  ./lib/replay 'Test'
mutant 'attempt started too late' lib/retry/budget.go \
  's/return b\.Attempts\.IsZero\(\) \|\| .*\n/return true\n/' \
  ./lib/retry 'TestNoScheduleBreaksThePromises'
mutant 'attempt may run into the reserve' lib/retry/budget.go \
  's/\t\treturn b\.Attempts\n/\t\treturn b.Deadline\n/' \
  ./lib/retry 'TestNoScheduleBreaksThePromises'
mutant 'acknowledged before the push' lib/retry/retrier.go \
  's/\t\tout\.StoreErr = err\n\t\treturn\n/\t\tout.StoreErr = err\n/' \
  ./lib/retry 'TestNoScheduleBreaksThePromises'
mutant 'one attempt too many' lib/retry/retrier.go \
  's/out\.Attempts < cfg\.MaxAttempts/out.Attempts <= cfg.MaxAttempts/' \
  ./lib/retry 'TestNoScheduleBreaksThePromises'
mutant 'attempts counted one too few' lib/retry/retrier.go \
  's/Attempts: out\.Attempts, Reason/Attempts: out.Attempts - 1, Reason/' \
  ./lib/retry 'TestNoScheduleBreaksThePromises'
mutant 'Retry-After shortened' lib/retry/retrier.go \
  's/switch wait = max\(wait, asked\); \{/switch {/' \
  ./lib/retry 'TestNoScheduleBreaksThePromises'
mutant 'ambiguous outcome sent again' lib/retry/retrier.go \
  's/return sinks\.DedupWindow\(r\.Inner\) != 0/return true/' \
  ./lib/retry 'TestNoScheduleBreaksThePromises'
mutant 'push: written under its key though the queue is full' lib/dlq/push.lua \
  's/status, id, detail = .full., .., ..\n/status, id, detail = "full", "", ""; call("HSET", ids, k, "1-1")\n/' \
  ./lib/dlq 'TestRedisConformanceEmbedded'
mutant 'push: a removed entry taken for a stored one' lib/dlq/find.lua \
  's/if not e or call\(.ZSCORE., kept, id\) then\n    return nil\n/if not e then\n    return f, "0", ""\n/; s/local function read\(id\)/local function read(id, f)/; s/= read\(id\)/= read(id, f)/' \
  ./lib/dlq 'TestEntriesThatOthersRemovedAreForgotten'
mutant 'push: other content taken for what is stored' lib/dlq/find.lua \
  's/elseif told and content == f then/elseif told then/; s/if content ~= .. and content ~= f then/if false then/' \
  ./lib/dlq 'TestRedisConformanceEmbedded'
mutant 'journal: a removed letter is not noted as over' lib/dlq/entry.lua \
  's/over\[#over \+ 1\] = j and address_of\(id, j\) or nil/over = over/' \
  ./lib/dlq 'TestRedisConformanceSingleNode/how_a_dead_letter_ends'
mutant 'journal: what others removed is over' lib/dlq/entry.lua \
  's/remove\(id, prior == .-., k, g, false\)/local _, _, _, _, _, j = parse(rec)\n    remove(id, prior == "-", k, g, j)/; s/, .., .., false\)/, "", "", "")/' \
  ./lib/dlq 'TestWhatOthersRemovedIsNotOver'
mutant 'journal: a lease does not tell the address' lib/dlq/lease.lua \
  's/if j ~= .. then/if false then/' \
  ./lib/dlq 'TestASettlementNeedsNoReads'
mutant 'journal: what is over comes back' lib/dlq/return.lua \
  's/call\(.SISMEMBER., ended, j\) == 1/false/' \
  ./lib/dlq 'TestRedisConformanceSingleNode/what_must_not_come_back'
mutant 'journal: put back by one who lost the lease' lib/dlq/works.lua \
  's/return l\[1\] == token and/return/' \
  ./lib/dlq 'TestRedisConformanceSingleNode/one_at_a_time'
mutant 'journal: a state that changed since taken for written' lib/dlq/journaled.lua \
  's/ == was then/ then/' \
  ./lib/dlq 'TestRedisConformanceSingleNode/parked_and_held'
mutant 'journal: a letter pushed again under another address ends nothing' lib/dlq/push.lua \
  's/if status == .exists. and j ~= .. and/if false and/' \
  ./lib/dlq 'TestRedisConformanceSingleNode/pushed_again_under'
mutant 'journal: notes at maxmemory refused' lib/dlq/noted.lua \
  's/call\(.HDEL., meta, ..\) -- see free_first\n//' \
  ./lib/dlq 'TestAFullRedisKeepsItsJournal'
mutant 'journal: letters from before it are not noted' lib/dlq/mend.lua \
  's/new\[#new \+ 1\] = id/new = new/' \
  ./lib/dlq 'TestAQueueThatWasThereBeforeItsJournal'
mutant 'retire: a leased letter' lib/dlq/retire.lua \
  's/ and not \(rec and tonumber\(scores\[i\] or 0\) > now\)//' \
  ./lib/dlq 'TestRedisConformanceSingleNode/retired_for'
mutant 'retire: begins anew each time' lib/dlq/retire.lua \
  's/call\(.HSET., meta, .retire_at., from\)/call("HDEL", meta, "retire_at")/' \
  ./lib/dlq 'TestRedisConformanceSingleNode/old_ones_that_are_due'
mutant 'push: due by the clock of the function' lib/dlq/store.lua \
  's/now_ms\(\) \+ tonumber\(n\)/tonumber(n)/' \
  ./lib/dlq 'TestNotBeforeIsADelay'
mutant 'schedule: gated by a count' lib/replay/run.go \
  's/st\.Depth == 0/st.Remaining == 0/' \
  ./lib/replay 'TestAWrongCountHoldsUpNothing'
mutant 'record released though the dead letter may be stored' lib/delivery/sender.go \
  's/case fault\.CodeOf\(why\) == fault\.CodeDLQUnavailable, /case /' \
  ./lib/delivery 'TestWhatMayBeStoredIsLookedForBeforeItIsSentAgain'
mutant 'record believed without its dead letter' lib/delivery/sender.go \
  's/return Answer\{\}, false\n\t\t\}\n\t\tif now := /}\n\t\tif now := /' \
  ./lib/delivery 'TestARecordIsBelievedOnlyWhileItsDeadLetterIsThere'
mutant 'dead letter left of what another delivered' lib/delivery/sender.go \
  's/if err == nil && it\.DeliveredAt\.IsZero\(\) && !it\.Spilled \{/if false {/' \
  ./lib/delivery 'TestASenderThatLostItsRecordSettlesByIt'
mutant 'item id taken for proof' lib/delivery/sender.go \
  's/ && FingerprintOf\(it\) == g\.fingerprint//' \
  ./lib/delivery 'TestAnItemIDAloneProvesNothing'
mutant 'note of a cancellation not looked for after a death' lib/delivery/sender.go \
  's/if r\.Queued \{ \/\/ whoever/if false { \/\/ whoever/' \
  ./lib/delivery 'TestWhatAMessageOfTheQueueStarts'
mutant 'record of somebody who accepts taken for the first' lib/delivery/table.go \
  's/row\{isAccepted: started\}, same\(step\{StateUnknown, StatusInProgress\}, none, isAccepting\)/same(started, isAccepted, isAccepting), row{none: {StateUnknown, StatusInProgress}}/' \
  ./lib/delivery 'TestWhatAMessageOfTheQueueStarts'
mutant 'record of a delivery set back' lib/delivery/table.go \
  's/isDeadLettered, isExpired, isDiscarded\)\)\n\}/isDeadLettered, isExpired, isDiscarded, isDelivered))\n}/' \
  ./lib/delivery 'TestARecordMovesForwardOnly'
mutant 'record reopened though it has changed' lib/delivery/move.lua \
  's/ and \(old\.item_id or ..\) == ARGV\[11\]//' \
  ./lib/delivery 'TestARecordOfADeadLetterThatIsGoneIsReopenedOnce'
mutant 'bucket: an earlier turn is not looked into' lib/delivery/record.lua \
  's/for n = this, this - 2, -1 do/for n = this, this - 1, -1 do/' \
  ./lib/delivery 'TestEarlierTurnsAreFound'
mutant 'bucket: any content is that of the record' lib/delivery/record.lua \
  's/return own == string\.sub\(fingerprint, 1, SHORT\), true/return true, true/' \
  ./lib/delivery 'TestWhatBecomesOfRecords'
mutant 'bucket: gone before the time to live' lib/delivery/record.lua \
  's/\(this \+ 1\) \* turn \+ ARGV\[3\]/this * turn + ARGV[3]/' \
  ./lib/delivery 'TestABucketIsKeptForTheTimeToLive|TestWhatWasSimplyDelivered'
mutant 'bucket: what is pending goes' lib/delivery/record.lua \
  's/ or r\.pending//' \
  ./lib/delivery 'TestPendingEventsLeaveTheBucket'
mutant 'bucket: there at the start of its next turn' lib/delivery/record.lua \
  's/\(this \+ 3\) \* turn - 1/(this + 3) * turn/' \
  ./lib/delivery 'TestWhatWasSimplyDelivered'
mutant 'bucket: takes more than Redis packs' lib/delivery/record.lua \
  's/count >= FULL/count >= 1000/' \
  ./lib/delivery 'TestManyRecordsStayPacked'
mutant 'bucket: each turn begins on the first level' lib/delivery/record.lua \
  's/next = level_expected\(\)/next = 0/' \
  ./lib/delivery 'TestManyRecordsStayPacked'
mutant 'bucket: a level that a process does not know is not looked into' lib/delivery/record.lua \
  's/needed = needed \.\. level/needed = needed/' \
  ./lib/delivery 'TestManyRecordsStayPacked|TestARecordIsInOnePlace'
mutant 'bucket: what has its own key by now stays' lib/delivery/record.lua \
  's/(PX., ms\)\n    if) found_in/$1 false/' \
  ./lib/delivery 'TestARecordIsInOnePlace'
mutant 'bucket: what is told again stays in an earlier turn' lib/delivery/record.lua \
  's/(lets the others pass\.\n  if) found_in/$1 false/' \
  ./lib/delivery 'TestWhatIsToldAgainLeavesItsTurn'
mutant 'bucket: only levels that its turn notes are looked into' lib/delivery/record.lua \
  's/deeper\(level, n\)\n        local v/string.find(call("HGET", first(n), NOTE) or "", level, 1, true) and deeper(level, n) or first(n)\n        local v/' \
  ./lib/delivery 'TestANoteThatIsGone'
mutant 'replay settled before its record' lib/replay/settler.go \
  's/\ts\.engine\.noteBefore\(ctx, group\.\.\.\)\n//' \
  ./lib/replay 'TestTheRecordIsWrittenBeforeADeliveredDeadLetterGoes'
mutant 'later: forgotten though the queue was silent' lib/delivery/later.go \
  's/how := BackLeave\n/how := BackForget\n/' \
  ./lib/delivery 'TestWhatTheQueueMayHaveIsLeft'
mutant 'later: forgotten though somebody died putting it' lib/delivery/later.go \
  's/if !g\.again && \(/if (/' \
  ./lib/delivery 'TestWhatSomebodyDiedPuttingIntoTheQueueIsPutAgain'
mutant 'later: what is noted as canceled is sent' lib/delivery/later.go \
  's/if err == nil && !canceled \{/if _ = canceled; err == nil {/' \
  ./lib/delivery 'TestWhatAMessageOfTheQueueStarts'
mutant 'later: older than notes, and sent' lib/delivery/later.go \
  's/age > s\.Records\.Retention\(\)/false/' \
  ./lib/delivery 'TestWhatAMessageOfTheQueueStarts'
mutant 'later: sent at its own times, not at the first' lib/delivery/sender.go \
  's/\t\tr\.AcceptedAt, r\.NotBefore = found\.AcceptedAt, found\.NotBefore\n//' \
  ./lib/delivery 'TestTheFirstAcceptanceCounts'
mutant 'later: the record of one under way goes too early' lib/delivery/move.lua \
  's/ or r\.accepted_at and s == .in_progress.//' \
  ./lib/delivery 'TestARecordIsKeptForAsLongAsItIsNeeded'
mutant 'handed back: forgotten though an attempt was not answered' lib/delivery/sender.go \
  's/fault\.CodeDLQUnavailable, rec\.Unanswered > 0:/fault.CodeDLQUnavailable:/' \
  ./lib/delivery 'TestWhoCancelsIsToldWhatMayHaveArrived'
mutant 'cancel: dead letters removed before the mark' lib/delivery/cancel.go \
  's/(\tstate, rec, err := c\.Records\.Cancel\(ctx, k, token, Record\{Pending: events\}\)\n)/\tif early, err := c.Letters.ClaimDelivery(ctx, dlq.DeliveryClaim{Sink: k.Sink, DeliveryID: k.ID, Token: token, TTL: budget.Lease()}); err == nil {\n\t\tif err := c.drop(ctx, budget, early); err != nil {\n\t\t\treturn Cancellation{}, err\n\t\t}\n\t}\n$1/' \
  ./lib/delivery 'TestWhatIsNotMarkedKeepsItsDeadLetters'
mutant 'cancel: nothing noted' lib/delivery/cancel.go \
  's/claim\.Note = c\.Records\.Retention\(\)/claim.Note = 0/' \
  ./lib/delivery 'TestWhatMayComeLaterIsNotedAsCanceled'
mutant 'cancel: no second look' lib/delivery/cancel.go \
  's/rec, err = c\.confirm\(ctx, k, token, (seen\(state, rec, c\.waiting\(ctx, k, rec, letters\)\))\)/rec = $1/' \
  ./lib/delivery 'TestWhatAReplayDeliversMeanwhileIsNotCanceled'
mutant 'cancel: the note of another taken away' lib/delivery/cancel.go \
  's/claim\.Note > 0 && fault\.CodeOf\(err\) != fault\.CodeItemLeased/claim.Note > 0/' \
  ./lib/delivery 'TestEveryOrderOfSteps/dead_letter_of_the_queue'
mutant 'cancel: a note left of what is not canceled' lib/delivery/cancel.go \
  's/\t\t\tc\.undo\(ctx, budget, k, "", true\).*\n//' \
  ./lib/delivery 'TestNoNoteIsLeftOfWhatIsNotCanceled'
mutant 'what waits in the queue is given up with a dead letter' lib/delivery/table.go \
  's/told\(StatusDiscarded\)/rowOf(told(StatusDiscarded), row{isAccepted: {written, StatusDiscarded}})/' \
  ./lib/delivery 'TestWhatBecomesOfRecords'
mutant 'an attempt after its time was over at the gate' lib/retry/window.go \
  's/if d\.expires\(wait\) \{/if false {/' \
  ./lib/retry 'TestNothingBeginsOnceItsTimeIsOver'
mutant 'a paused sink is sent to' lib/delivery/sender.go \
  's/ && s\.Paused\(ctx, r\.Sink\):/ \&\& false:/' \
  ./lib/delivery 'TestAPausedSinkIsNotSentTo'
mutant 'a FIFO group does not share its time' functions/send/handler/sqs.go \
  's/Followers: len\(group\) - n - 1/Followers: 0/' \
  ./functions/send/handler 'TestAGroupSharesItsTime'
mutant 'a receiver has no share' lib/delivery/sender.go \
  's/p\.sends && !p\.later && r\.Turn != nil/false/' \
  ./lib/delivery 'TestAReceiverThatHangsHoldsUpNoOther'
mutant 'what waits for its share holds a slot' lib/delivery/batch.go \
  's/\tb\.busy--\n\tb\.grant\(\)\n\tb\.mu\.Unlock\(\)\n\n/\tb.busy--\n\tb.busy++\n\tb.mu.Unlock()\n\n/' \
  ./lib/delivery 'TestAReceiverThatHangsHoldsUpNoOther'
mutant 'a failed search is not noted' lib/delivery/sender.go \
  's/if fault\.CodeOf\(err\) != fault\.CodeDLQNotFound \{\n\t+s\.unguarded/if false {\n\t\t\t\ts.unguarded/' \
  ./lib/delivery 'TestAFailedSearchIsNoted'
mutant 'a held message is handed back at its last receive' functions/send/handler/sqs.go \
  's/n < most/n <= most/' \
  ./functions/send/handler 'TestAHeldGroupWaitsForItsFirst'
mutant 'a terminal failure holds its group' lib/delivery/sender.go \
  's/return reason\.Due\(\)/return true/' \
  ./functions/send/handler 'TestAHeldGroupWaitsForItsFirst'
mutant 'unknown names are let in' internal/strictjson/strictjson.go \
  's/json\.RejectUnknownMembers\(true\)/json.RejectUnknownMembers(false)/' \
  ./functions/send/handler 'TestARequestIsReadStrictly'
mutant "operator's headers over plain http" lib/sinks/webhook/webhook.go \
  's/u\.Scheme == s\.url\.Scheme && u\.Host/u.Host/' \
  ./lib/sinks/webhook 'TestConfiguredHeadersNeedTheScheme'
mutant 'a token endpoint without an answer is ambiguous' lib/sinks/internal/tokens/cache.go \
  's/case sinks\.IsAmbiguous\(err\):/case false:/' \
  ./lib/sinks/internal/tokens 'TestAnAmbiguousFetchIsTransient|TestWhatComesOfAFetch'
mutant 'the fetch of a token ends with whoever began it' lib/sinks/internal/tokens/cache.go \
  's/context\.WithoutCancel\(ctx\)/ctx/' \
  ./lib/sinks/internal/tokens 'TestACallerLeavesAtItsEndAndTheFetchGoesOn'
mutant 'fcm: a data message becomes a notification' lib/sinks/fcm/message.go \
  's/if key != "" && shown \{/if key != "" {/' \
  ./lib/sinks/fcm 'TestWhatFCMIsSent'
mutant 'apns: each process has a token of its own' lib/sinks/internal/tokens/jwt.go \
  's/key\.Sign\(nil, digest/key.Sign(rand.Reader, digest/' \
  ./lib/sinks/apns 'TestAllSinksOfAKeyHaveOneToken'
mutant 'apns: teams share connections' lib/sinks/internal/httpsend/transport.go \
  's/o\.Resolver, o\.Pool\}/o.Resolver, ""}/' \
  ./lib/sinks/apns 'TestTeamsShareNoConnection'
mutant 'web push: encrypted with the keys in another order' lib/sinks/webpush/encrypt.go \
  's/string\(to\.Bytes\(\)\)\+string\(sender\)/string(sender)+string(to.Bytes())/' \
  ./lib/sinks/webpush 'TestTheRFCsExample'
mutant 'web push: an endpoint leads inside' lib/sinks/webpush/webpush.go \
  's/Guard: s\.guard\.Addresses\(\), //' \
  ./lib/sinks/webpush 'TestAnEndpointsNameLeadsToNoAddressInside'
mutant "web push: one browser's 429 holds all" lib/sinks/webpush/answer.go \
  's/return alone\(resp\.Error\(origin, reason\(resp\), true\)\)/return resp.Error(origin, reason(resp), true)/' \
  ./lib/sinks/webpush 'TestWhatAnAnswerSaysOfOthers'
mutant 'web push: any reason is shown' lib/sinks/webpush/answer.go \
  's/case reasons\[said\.Reason\]/case said.Reason != ""/' \
  ./lib/sinks/webpush 'TestConformance'
mutant 'web push: kept beyond its time' lib/sinks/webpush/webpush.go \
  's/expires\.Sub\(now\)\/time\.Second/expires.Sub(now)\/time.Second+1/' \
  ./lib/sinks/webpush 'TestTimeToLive'
mutant 'web push: a token from ahead is used' lib/sinks/webpush/vapid.go \
  's/ && left <= int64\(tokenLife\/time\.Second\)//' \
  ./lib/sinks/webpush 'TestTokensAreKept'
mutant 'guard: an address inside is dialled' lib/sinks/internal/guard/guard.go \
  's/if !g\.allows\(ap\.Addr\(\)\)/if false \&\& !g.allows(ap.Addr())/' \
  ./lib/sinks/webhook 'TestGuardJudgesTheAddress'
mutant 'inbox: FCM takes any token' internal/inbox/providers.go \
  's/return ok && p\.tokens\[token\]/return ok \&\& len(token) > 0/' \
  ./internal/inbox 'TestFCMAsksForAToken'
mutant 'email: a base64 password shown' lib/sinks/email/show.go \
  's/\[\]string\{pass, base64\.[^}]*\}/[]string{pass}/' \
  ./lib/sinks/email 'TestWhatLogsInIsShownInNoForm'
mutant 'email: what logged in is forgotten' lib/sinks/email/conversation.go \
  's/c\.shown = append\(c\.shown, s\)/c.shown = append(c.shown[:0:0], "")/' \
  ./lib/sinks/email 'TestWhatLogsInIsShownInNoForm'
mutant 'email: the recipient known by an @ alone' lib/sinks/email/show.go \
  's/for _, l := range e\.locals \{\n\t\tif s/for _, l := range e.locals[:0] {\n\t\tif s/' \
  ./lib/sinks/email 'TestTheRecipientIsShownInNoForm'
mutant 'email: a reply that was cut off is believed' lib/sinks/email/conversation.go \
  's/(line, err := c\.in\.ReadString\(.*\)\n\t\tif err != nil) \{/$1 \&\& line == "" {/' \
  ./lib/sinks/email 'TestNothingThatAServerSaysOutlivesTheAttempt'
mutant 'a replay dated anew' lib/dlq/single.go \
  's/FirstAttempt: it\.FirstAttempt\(\), //' \
  ./lib/replay 'TestTheFirstAttempt'
mutant 'an attempt dated anew' lib/retry/retrier.go \
  's/k\.FirstAttempt, k\.ExpiresAt = sinks\.FirstAttempt\(ctx\), d\.ExpiresAt/k.ExpiresAt = d.ExpiresAt/' \
  ./lib/replay 'TestTheFirstAttempt'
mutant 'late dead-letter write without its chance' lib/retry/budget.go \
  's/late\.After\(end\)/late.IsZero()/' \
  ./lib/retry 'TestADeadLetterIsWrittenHoweverLateItsSinkReturns'
mutant 'replay: attempts beyond the lease' lib/replay/attempt.go \
  's/withinLease\(a\.budget, l\.Lease\)/a.budget/' \
  ./lib/replay 'TestNoAttemptOutlastsItsLease'
mutant 'replay: not_before of the item forgotten' lib/replay/attempt.go \
  's/\[\]time\.Time\{notBefore, it\.NotBefore\}/[]time.Time{notBefore}/' \
  ./lib/replay 'TestAFailedReplayOfAnOperatorKeepsTheNotBefore'
mutant 'claim: not_before of an entry written by others ignored' lib/dlq/redis_claim.go \
  's/case time\.Until\(l\.Item\.NotBefore\) > 0:/case false:/' \
  ./lib/dlq 'TestRedisConformanceEmbedded/the_schedule_is_not_starved'
mutant 'take: prior of an expired lease forgotten' lib/dlq/lease.lua \
  's/(local prior, holder\n  if )rec then/$1false then/' \
  ./lib/dlq 'TestRedisConformanceEmbedded/an_expired_lease'
mutant 'deaths: charged to what had not begun' lib/dlq/death.lua \
  's/\(s\.deaths or quiet ~= ..\) and s\.begun ~= holder/false/' \
  ./lib/dlq 'TestRedisConformanceEmbedded/a_replayer_that_died'
mutant 'deaths: not charged by a claim' lib/dlq/claim.lua \
  's/rec and outlived\(id, rec, now\) or //' \
  ./lib/dlq 'TestRedisConformanceEmbedded/a_replayer_that_died'
mutant 'deaths: forgotten by an unpark' lib/dlq/unpark.lua \
  's/s = decoded\(outlived\(id, rec, now\)\)/local _ = rec/' \
  ./lib/dlq 'TestRedisConformanceEmbedded/a_lease_that_ran_out_is_not_taken'
mutant 'deaths: forgotten by what supersedes' lib/dlq/superseded.lua \
  's/s = decoded\(outlived\(id, rec, now\)\)/local _ = rec/' \
  ./lib/dlq 'TestRedisConformanceEmbedded/a_lease_that_ran_out_is_not_taken'
mutant 'deaths: a discard tells what was read before' lib/replay/discard.go \
  's/fate\{l\.Item, /fate{it, /' \
  ./lib/replay 'TestNoHand'
mutant 'deaths: charged to its own holder' lib/dlq/lease.lua \
  's/rec and holder ~= token and outlived/rec and outlived/' \
  ./lib/dlq 'TestRedisConformanceEmbedded/who_comes_back'
mutant 'replay: what kills is never parked' lib/replay/suspect.go \
  's/item\.Item\.Deaths < maxDeaths/item.Item.Deaths > 0/' \
  ./lib/replay 'TestAnItemThatKillsItsReplayersIsParked'
mutant 'replay: suspects of several sinks at once' lib/replay/run.go \
  's/alone:   make\(slots, 1\)/alone:   make(slots, 9)/' \
  ./lib/replay 'TestAnItemThatKillsItsReplayersIsParked'
mutant 'replay: a promise to end with the context believed' lib/replay/replay.go \
  's/guarded\{retry\.Bare\(t\.Sink\)\}/retry.Bare(t.Sink)/' \
  ./lib/replay 'TestASinkThatSaysItEndsWithItsContextAndHangsHoldsUpNoReplay'
mutant 'operations: one that does not get on goes first' lib/replay/operations.go \
  's/op\.Stalled >= stalledAfter/op.Stalled < 0/' \
  ./lib/replay 'TestABulkReplayThatKillsItsProcessesHoldsUpNoSchedule'
mutant 'operations: an unfinished one expires' lib/replay/operation_create.lua \
  's/return 1\n/redis.call("PEXPIRE", KEYS[1], 2592000000)\nreturn 1\n/' \
  ./lib/replay 'TestNothingOfAnUnfinishedOperationHasATTL'
mutant 'operations: a final one canceled' lib/replay/operation_cancel.lua \
  "s/if status == 'queued' or status == 'running' or status == 'stopped' then/if true then/" \
  ./lib/replay 'TestOperationStores'
mutant 'flow: a late probe closes the breaker' lib/flow/state.go \
  's/if !s\.holds\(e\.token, e\.now\) \{/if false {/' \
  ./lib/flow 'TestEveryInterleaving|TestAProbeThatDies'
mutant 'flow: two probes at a time' lib/flow/state.go \
  's/(\) grant \{\n\tswitch \{\n\tcase )s\.Probe\.taken\(e\.now\)/$1false/' \
  ./lib/flow 'TestEveryInterleaving|TestAProbeThatDies'
mutant 'flow: half open lets everybody in' lib/flow/state.go \
  's/if len\(s\.Under\) >= s\.Step \{/if false {/' \
  ./lib/flow 'TestItClosesStepByStep'
mutant 'flow: failures alone are counted' lib/flow/state.go \
  's/\t\ts\.Now\.Good\+\+\n/\t\t_ = 0\n/' \
  ./lib/flow 'TestSingleFailuresNeverOpen'
mutant 'flow: outcomes of attempts from before count' lib/flow/state.go \
  's/if o\.Mark != s\.Since \{/if false {/' \
  ./lib/flow 'TestAttemptsFromBefore|TestOutcomesCount'
mutant 'flow: a probe that failed closes' lib/flow/state.go \
  's/Open:    \{Good: \(\*State\)\.halfClose, Bad: \(\*State\)\.stayOpen/Open:    {Good: (*State).halfClose, Bad: (*State).halfClose/' \
  ./lib/flow 'TestOnlyAnAnswer|TestEveryInterleaving'
mutant 'flow: all come back at once after a hold' lib/flow/state.go \
  's/case s\.Probe\.taken\(e\.now\):(\n\t\treturn s, grant)/case false:$1/' \
  ./lib/flow 'TestAHoldIsEverybodys'
mutant 'flow: a hold for longer than was asked' lib/flow/state.go \
  's/min\(e\.until, e\.now\+p\.MaxHold\.Milliseconds\(\)\)/e.now+p.MaxHold.Milliseconds()/' \
  ./internal/outage 'TestOutage'
mutant 'flow: a tenth more than the rate' lib/flow/rate.go \
  's/(m\.Real = max\(m\.Real, now\) \+ s\.Interval)\n/$1*9\/10\n/' \
  ./internal/outage 'TestOutage'
mutant 'flow: what is known is twenty seconds old' lib/flow/view.go \
  's/viewAge = 2 \* time/viewAge = 20 * time/' \
  ./internal/outage 'TestOutage'
mutant 'flow: a process that is alone tries each second' lib/flow/flow.go \
  's/r\.wait = min\(2\*r\.wait, /r.wait = min(r.wait, /' \
  ./internal/outage 'TestOutage'
mutant 'flow: terminal answers are failures' lib/retry/gate.go \
  's/(e\.Code == fault\.CodeSinkUnavailable \{\n\t\treturn flow\.)Good/$1Bad/' \
  ./lib/flow 'TestTerminalAnswers'
mutant 'flow: a refusal is retried' lib/retry/gate.go \
  's/case flow\.Refused:\n\t\t\t\*out = out\.refused\(dlq\.ReasonOpen, l, cfg\)\n\t\t\treturn l, false\n/case flow.Refused:\n/' \
  ./lib/flow 'TestItClosesStepByStep'
mutant 'flow: one receiver for all recipients' lib/sinks/sinks.go \
  's/return r\.Receiver\(to\)/_ = r\n\t\treturn ""/' \
  ./lib/flow 'TestReceiversOfOneSink'
mutant 'flow: a change made twice after a lost reply' lib/flow/view.go \
  's/if slices\.Contains\(k\.state\.Changes, change\) \{/if slices.Contains([]string{}, change) {/' \
  ./lib/flow 'TestAChangeIsFoundBelow'
mutant 'flow: what was refused comes back at once' lib/flow/rate.go \
  's/m\.Spaced = max\(m\.Spaced, m\.Real, now\) \+ s\.Interval/m.Spaced = now/' \
  ./lib/flow 'TestSlots'
mutant 'flow: a refused slot is used up' lib/flow/rate.go \
  's/\t\tm\.Spaced = max\(m\.Spaced, m\.Real, now\)/\t\tm.Real += s.Interval\n\t\tm.Spaced = max(m.Spaced, m.Real, now)/' \
  ./lib/flow 'TestSlots'
mutant 'flow: the script hands out one slot twice' lib/flow/rate.lua \
  's/    reals\[n\] = math\.max\(real, now\) \+ interval\n//' \
  ./lib/flow 'TestStoresHandOutSlots'
mutant 'shared: what fails with others is given up' internal/redisconn/shared.go \
  's/\tif c\.answer == nil \{\n\t\treturn alone\(\)\n\t\}\n//' \
  ./internal/redisconn 'TestACallThatFailsInAPipeline'
mutant 'shared: a call that was left is made' internal/redisconn/shared.go \
  's/s\.waiting = slices\.DeleteFunc\(s\.waiting/_ = slices.DeleteFunc(slices.Clone(s.waiting)/' \
  ./internal/redisconn 'TestACallWhoseTimeEndsBeforeItBegins'
mutant 'shared: a call waits for whatever hangs' internal/redisconn/shared.go \
  's/patience = 10 \* time\.Millisecond/patience = time.Hour/' \
  ./internal/redisconn 'TestACallThatHangsHoldsUpNoOther'
mutant 'shared: no time is left for a second try' internal/redisconn/shared.go \
  's/length: tryOf\(wholeCall\(ctx, time\.Now\(\)\)\)/length: wholeCall(ctx, time.Now())/' \
  ./internal/redisconn 'TestAPipelineThatIsNotAnswered'
mutant 'list: what is kept beside the entries is not asked for' lib/dlq/redis_read.go \
  's/e\.fresh = b\.none\(\)/e.fresh = b.none() || true/' \
  ./lib/dlq 'TestAPageOfWhatNoReplayHasTouched'
mutant 'observe: what the sample leaves out is not counted' functions/send/handler/handler.go \
  's/\tdefault:\n\t\th\.app\.Metrics\.Unlogged\(r\.Sink, elapsed\)\n//' \
  ./functions 'TestOnlyLinesOfPlainSuccessesAreSampled'
mutant "observe: the service's numbers are published by sink" internal/observe/metrics.go \
  's/_, ofSink := values\[metric\]; ofSink && d\.sink/d.sink/; s/bySink\(d\.sink, metric, values\[metric\]\)/bySink(d.sink, metric, all[metric])/' \
  ./internal/observe 'TestAnInvocationWithOneSink'
# What only a run of everything shows: minutes each.
GOFLAGS=-tags=full mutant 'wipe: an object deleted once its dead letters are back in the queue' lib/journal/keeper_back.go \
  's/names = append\(names, s\.name\.Name\)/names = append(names, s.name.Name, s.name.group.open(t.sink))/' \
  ./internal/wipe 'TestWipe'
GOFLAGS=-tags=full mutant 'wipe: what is parked taken for over' lib/dlq/settle.lua \
  's/    s\.parked = true\n/    s.parked = true\n    over[#over + 1] = address_of(id, told_by(id, j))\n/' \
  ./internal/wipe 'TestWipe'
GOFLAGS=-tags=full mutant 'wipe: nothing written beside a push' lib/journal/queue.go \
  's/opened\.Go\(func\(\) \{ p\.openErr = b\.put\(.*\) \}\)/opened.Go(func() {})/' \
  ./internal/wipe 'TestWipe'
GOFLAGS=-tags=full mutant 'wipe: what finds no room deleted on its way back' lib/journal/keeper_back.go \
  's/full, took = true, false/full = true/' \
  ./internal/wipe 'TestWipe'
GOFLAGS=-tags=full mutant 'soak: a sender that died is not counted' lib/delivery/move.lua \
  's/\(old\.unanswered or 0\) \+ 1\n/(old.unanswered or 0)\n/' \
  ./internal/soak 'TestSoak'
GOFLAGS=-tags=full mutant 'soak: a cancellation is not noted' lib/dlq/delivery.lua \
  's/if note > 0 then/if note < 0 then/' \
  ./internal/soak 'TestSoak'
GOFLAGS=-tags=full mutant 'soak: a repeated push is stored again' lib/dlq/find.lua \
  's/elseif told and content == f and .* then\n/elseif false then\n/' \
  ./internal/soak 'TestSoak'
GOFLAGS=-tags=full mutant 'soak: a lease of a record ends at once' lib/delivery/move.lua \
  's/new\.until_ms = now \+ tonumber\(ARGV\[9\]\)/new.until_ms = now/' \
  ./internal/soak 'TestSoak'
GOFLAGS=-tags=full mutant 'soak: a replay settles before the record is told' lib/replay/attempt.go \
  's/noted, err := e\.Records\.Update\(ctx, changes\.\.\.\)/noted, err := make([]delivery.Status, len(changes)), error(nil)/' \
  ./internal/soak 'TestSoak'
GOFLAGS=-tags=full mutant 'soak: an address is forgotten whose object stays' lib/journal/keeper_tick.go \
  's/(if err := t\.k\.remove\(ctx, names)(\); err != nil \{\n\t\treturn err\n\t\}\n\tt\.r\.Deleted)/$1\[:0\]$2/' \
  ./internal/soak 'TestSoak'
GOFLAGS=-tags=full mutant 'soak: given up, and the journal still has it' lib/journal/drop.go \
  's/missing := q\.forget\(ctx, s, drops\)/var missing error/' \
  ./internal/soak 'TestSoak'
GOFLAGS=-tags=full mutant 'soak: an unpark forgets who died' lib/dlq/unpark.lua \
  's/s = decoded\(outlived\(id, rec, now\)\)/local _ = rec/' \
  ./internal/soak 'TestSoak'
GOFLAGS=-tags=full mutant 'soak: sent without a record' lib/delivery/sender.go \
  's/if !r\.Fresh \|\| p\.later \{/if p.later || r.Queued {/' \
  ./internal/soak 'TestSoak'
GOFLAGS=-tags=full mutant 'edits: what is superseded is due all the same' lib/dlq/succession.lua \
  's/s\.held = not s\.expired or nil/s.held = nil/; s/(HDEL., lease, id\)\n) *call\(.ZREM., due, id\)\n/$1/' \
  ./internal/races 'TestEdits'
GOFLAGS=-tags=full mutant 'edits: a cancellation forgets what superseded it' lib/delivery/cancel.go \
  's/by == "" \|\| err != nil \|\| id\.Sink == claim\.Sink/true/' \
  ./internal/races 'TestEdits'
GOFLAGS=-tags=full mutant 'edits: who died may not have sent it' lib/dlq/death.lua \
  's/(\(s\.unanswered or 0\)) \+ 1/$1/' \
  ./internal/races 'TestEdits'

echo "mutants: $caught caught, $survived not caught"
[[ $survived == 0 ]]
