#include "bootagent/efi_boot.h"

#include "tests/blockmap/disk/disk_fixture.h"

namespace bootstream {
namespace {

constexpr char kGlobal[] = "-8be4df61-93ca-11d2-aa0d-00e098032b8c";

// A folder of plain files in the place of efivarfs.
class EfiBootTest : public DiskTest {
 protected:
  void SetUp() override {
    DiskTest::SetUp();
    Run("mkdir vars && printf '\\7\\0\\0\\0\\1\\0\\0\\0' > vars/BootOrder" +
        std::string(kGlobal));
    variables_ = OpenEfiVarFs(Path("vars"));
    efi_.emplace(*variables_);
    source_ = Table(std::byte{0x11});
    target_ = Table(std::byte{0x22});
  }
  static PartitionTable Table(std::byte guid) {
    PartitionTable table;
    table.type = TableType::kGpt;
    Partition esp;
    esp.number = 1;
    esp.extent = {1 << 20, 64 << 20};
    esp.type_guid = kEspTypeGuid;
    esp.guid.fill(guid);
    table.partitions.push_back(esp);
    return table;
  }
  std::vector<char> Variable(const std::string& name) {
    const std::string path = Path("vars/" + name + kGlobal);
    return std::filesystem::exists(path) ? Load(path) : std::vector<char>();
  }
  int BootNext() {
    const auto value = Variable("BootNext");
    return value.size() == 6 ? value[4] + 256 * value[5] : -1;
  }
  std::unique_ptr<EfiVariables> variables_;
  std::optional<EfiBoot> efi_;
  PartitionTable source_;
  PartitionTable target_;
};

TEST_F(EfiBootTest, TargetIsStartedOnceByAnEntryOfOurOwn) {
  ASSERT_TRUE(efi_->StartNextFrom(target_).has_value());
  EXPECT_EQ(BootNext(), 0);
  // Attributes, active, path length, label, hard drive node.
  const auto entry = Variable("Boot0000");
  ASSERT_GT(entry.size(), 100u);
  EXPECT_EQ(entry[0], 7);
  EXPECT_EQ(entry[4], 1);
  const std::string bytes(entry.begin(), entry.end());
  EXPECT_NE(bytes.find(std::string("\x04\x01\x2a\x00\x01\x00\x00\x00"
                                   "\x00\x08\x00\x00\x00\x00\x00\x00"
                                   "\x00\x00\x02\x00\x00\x00\x00\x00",
                                   24) +
                       std::string(16, '\x22') + "\x02\x02"),
            std::string::npos);
  EXPECT_EQ(bytes.substr(bytes.size() - 4), std::string("\x7f\xff\x04\0", 4));
  EXPECT_EQ(Variable("BootOrder").size(), 8u) << "BootOrder was changed";
}

TEST_F(EfiBootTest, SecondAttemptUsesTheSameEntry) {
  ASSERT_TRUE(efi_->StartNextFrom(target_).has_value());
  ASSERT_TRUE(efi_->StartNextFrom(target_).has_value());
  EXPECT_TRUE(Variable("Boot0001").empty());
}

TEST_F(EfiBootTest, EntryOfSomebodyElseIsNotOverwritten) {
  Run("printf '\\7\\0\\0\\0\\1\\0\\0\\0\\4\\0X\\0\\0\\0\\177\\377\\4\\0' > "
      "vars/Boot0000" +
      std::string(kGlobal));
  ASSERT_TRUE(efi_->StartNextFrom(target_).has_value());
  EXPECT_EQ(BootNext(), 1);
  EXPECT_EQ(Variable("Boot0000").size(), 18u);
}

TEST_F(EfiBootTest, EntriesOfTheSourceComeBack) {
  // The source's own entry, made the way ours is.
  ASSERT_TRUE(efi_->StartNextFrom(source_).has_value());
  const auto entry = Variable("Boot0000");
  // Another label than ours.
  Run("sed -i 's/b.o.o.t.s.t/B.O.O.T.S.T/' vars/Boot0000" +
      std::string(kGlobal) + "; true");
  const auto own = Variable("Boot0000");
  ASSERT_TRUE(efi_->Save(source_).has_value());
  // The firmware drops it, and forgets the order.
  Run("rm vars/Boot0000" + std::string(kGlobal) + " vars/BootOrder" +
      std::string(kGlobal));
  ASSERT_TRUE(efi_->StartNextFrom(target_).has_value());
  ASSERT_TRUE(efi_->Restore().has_value());
  EXPECT_EQ(Variable("BootOrder").size(), 8u);
  EXPECT_EQ(Variable("Boot0000"), own);
  EXPECT_TRUE(Variable("Boot0001").empty());
}

TEST_F(EfiBootTest, SavingTwiceKeepsTheFirst) {
  ASSERT_TRUE(efi_->Save(source_).has_value());
  Run("printf '\\7\\0\\0\\0\\2\\0' > vars/BootOrder" + std::string(kGlobal));
  ASSERT_TRUE(efi_->Save(source_).has_value());
  ASSERT_TRUE(efi_->Restore().has_value());
  EXPECT_EQ(Variable("BootOrder").size(), 8u);
}

TEST_F(EfiBootTest, DiskWithoutASystemPartitionCannotBeStarted) {
  const auto status = efi_->StartNextFrom(PartitionTable{});
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, ErrorCode::kNotFound);
}

TEST_F(EfiBootTest, DamagedVariablesAreNotTrusted) {
  Run("printf '\\7\\0\\0\\0\\1\\0\\0\\0\\377\\377' > vars/Boot0003" +
      std::string(kGlobal) + "; printf x > vars/Boot0004" + kGlobal);
  EXPECT_TRUE(efi_->Save(source_).has_value());
  EXPECT_TRUE(efi_->StartNextFrom(target_).has_value());
  EXPECT_TRUE(efi_->Restore().has_value());
}

}  // namespace
}  // namespace bootstream
